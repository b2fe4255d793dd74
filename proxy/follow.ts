import { isDeepStrictEqual } from 'node:util'

/** How soon what Redis says is obeyed here, where there is no word of a change or it was lost on the way. */
const LOOK_MILLISECONDS = 1_000

export interface Follower {
  /** Looks at once: there is word of a change. */
  look(): Promise<void>
  stop(): void
}

/**
 * Follows what Redis says of something: looks now, and then again and again. A look that fails changes nothing, what was said
 * last holds: operations are refused anyhow while Redis is away.
 */
export async function follow<Said>(options: {
  ask(): Promise<Said>
  /** Given what is said at first, and whatever else is said later. */
  take(said: Said): void
  /** Told after each change that comes later: what runs has to be judged again. */
  onChange(): void
  readonly lookEvery?: number
}): Promise<Follower> {
  const { ask, take, onChange, lookEvery = LOOK_MILLISECONDS } = options
  let known: Said | undefined

  async function changed(): Promise<boolean> {
    const said = await ask()
    if (isDeepStrictEqual(said, known)) return false
    known = said
    take(said)
    return true
  }
  const look = async () => {
    if (await changed()) onChange()
  }

  await changed().catch(() => {})
  const timer = setInterval(() => void look().catch(() => {}), lookEvery)
  timer.unref()
  return {
    look: () => look().catch(() => {}),
    stop: () => clearInterval(timer),
  }
}
