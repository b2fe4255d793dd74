import type { Session } from './session.ts'

/** The one line a person sees when they were let through: under which grant, and for how long it still runs. */
export function notice(session: Session): string {
  const { grant, until } = session.window
  return `drawbridge: let through by ${grant}, open for ${duration(until - performance.now())} more`
}

function duration(milliseconds: number): string {
  const minutes = Math.floor(milliseconds / 60_000)
  if (minutes < 1) return `${Math.max(0, Math.floor(milliseconds / 1000))} s`
  if (minutes < 120) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} days`
}
