import type { Session } from './session.ts'

/** How long before its end a window is warned of: time to ask for more, and for somebody to say yes. */
const LAST_MILLISECONDS = 10 * 60_000

/**
 * What a person sees when they were let through, in lines: under which grant and for how long it still runs; of a push, the id
 * its receipt is had by; in the last ten minutes of its window, how to get more.
 */
export function notice(session: Session): string {
  if (session.instead) {
    const { sentence, hint } = session.instead
    return `drawbridge: let through because this repository is only observed for now; otherwise: ${sentence}${hint ? `\ndrawbridge: ${hint}` : ''}`
  }
  const { grant: id, until } = session.window
  const now = performance.now()
  const receipt = session.start.action === 'push' ? `; receipt ${session.operation}` : ''
  const said = `drawbridge: let through by ${id}, open for ${duration(until - now)} more${receipt}`
  const grant = session.grants.find(each => each.id === id)
  // An idle end that is near has just been put off by this very use.
  if (!grant || until - now + grant.expires - grant.ends > LAST_MILLISECONDS) return said
  const more = grant.request ? `git access extend ${grant.request} --for 1h` : 'ask whoever gave it to you'
  return `${said}\ndrawbridge: WARNING: this window closes soon and cuts what still runs; for more time: ${more}`
}

function duration(milliseconds: number): string {
  const minutes = Math.floor(milliseconds / 60_000)
  if (minutes < 1) return `${Math.max(0, Math.floor(milliseconds / 1000))} s`
  if (minutes < 120) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} days`
}
