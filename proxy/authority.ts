import type { Logger } from 'pino'
import { type Door, doorOf, NO_TRUST, readTrust } from '../ca/trust.ts'
import type { AuthorityBoard } from '../grant/authority.ts'

/** How soon operations that run hear of a revocation; whoever logs in or begins a command meets it at once. */
const LOOK_MILLISECONDS = 1_000

/** The certificate authority as this proxy knows it. Nothing of its own is kept: what Redis does not say is not trusted. */
export interface FollowedAuthority extends Door {
  /**
   * Finds out whether anything has changed, and what.
   * @throws StoreError when Redis cannot be asked: what may have been revoked since is unknown
   */
  learn(): Promise<void>
  /** Whether anything is known of it at all. */
  known(): boolean
  stop(): void
}

/** Follows rotations and revocations. `onChange` is called after each, and once for what is known at first. */
export function followAuthority(options: {
  readonly board: Pick<AuthorityBoard, 'version' | 'get'>
  onChange(): void
  readonly log: Pick<Logger, 'info' | 'error'>
  readonly lookEvery?: number
}): FollowedAuthority {
  const { board, onChange, log } = options
  let door = doorOf(NO_TRUST)
  let known: string | undefined

  async function learn(): Promise<void> {
    if ((await board.version()) === known) return
    const found = await board.get()
    if (found?.version === known) return
    door = found ? read(found.text) : doorOf(NO_TRUST)
    known = found?.version
    log.info({ version: known }, 'the certificate authority has changed')
    onChange()
  }

  /** A text that is not understood could revoke anything: nobody is trusted by it. */
  function read(text: string): Door {
    try {
      return doorOf(readTrust(text))
    } catch (cause) {
      log.error(
        { err: cause },
        'what Redis says of the certificate authority is not understood; none of its certificates is taken',
      )
      return doorOf(NO_TRUST)
    }
  }

  // A look that fails changes nothing: operations are refused anyhow while Redis is away.
  const timer = setInterval(() => void learn().catch(() => {}), options.lookEvery ?? LOOK_MILLISECONDS)
  timer.unref()
  return {
    learn,
    known: () => known !== undefined,
    isAuthority: blob => door.isAuthority(blob),
    isHostAuthority: blob => door.isHostAuthority(blob),
    isRevoked: certificate => door.isRevoked(certificate),
    stop: () => clearInterval(timer),
  }
}
