import type { Log } from '../audit/emit.ts'
import type { AuthorityClient } from '../ca/client.ts'
import { type Trust, trustVersion, writeTrust } from '../ca/trust.ts'
import type { AuthorityBoard } from '../grant/authority.ts'

const LOOK_MILLISECONDS = 500

/** The certificate authority as the control plane knows it. */
export interface KnownAuthority {
  /** What it last said; undefined when it has said nothing since this role started. */
  trust(): Trust | undefined
  /** Why it is not followed at the moment, if it is not. */
  fault(): string | undefined
  /** Puts what is known into a Redis that may have lost it, or holds what was so earlier. */
  restore(): Promise<void>
  close(): Promise<void>
}

/**
 * Tells every proxy, through Redis, which keys the authority signs with and what it has revoked: within half a second of the
 * change, and again whenever Redis says something else. The authority itself reaches nothing and is asked at its socket.
 */
export function followAuthority(options: {
  readonly client: Pick<AuthorityClient, 'trusted' | 'krl'>
  readonly board: AuthorityBoard
  readonly log: Log
  readonly lookEvery?: number
}): KnownAuthority {
  const { client, board, log } = options
  let trust: Trust | undefined
  let said: { readonly version: string; readonly text: string } | undefined
  let fault: string | undefined
  let closed = false

  async function look(): Promise<void> {
    const { user, host, krl: krlVersion } = await client.trusted()
    const same = trust && String(trust.krl.version) === krlVersion
    const krl = same && trust ? trust.krl : await client.krl()
    trust = { user, host, krl }
    const text = writeTrust(trust)
    said = { version: trustVersion(text), text }
    if ((await board.version()) !== said.version) await board.put(said)
  }

  async function round(): Promise<void> {
    try {
      await look()
      if (fault !== undefined) log.info({}, 'the certificate authority is followed again')
      fault = undefined
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      if (fault !== message) log.warn({ err: cause }, 'the certificate authority is not followed; trying again')
      fault = message
    }
  }

  async function run(): Promise<void> {
    while (!closed) {
      await round()
      await pause.next()
    }
  }

  const pause = pauses(options.lookEvery ?? LOOK_MILLISECONDS)
  const running = run()

  return {
    trust: () => trust,
    fault: () => fault,
    // What an earlier Redis knew may lack revocations: rather nothing than that.
    restore: () => (said ? board.put(said) : board.clear()),
    close: async () => {
      closed = true
      pause.over()
      await running
    },
  }
}

/** Waits that can be ended early, for good. */
function pauses(milliseconds: number) {
  const over = Promise.withResolvers<void>()
  return {
    next: () =>
      Promise.race([
        over.promise,
        new Promise<void>(resolve => {
          setTimeout(resolve, milliseconds).unref()
        }),
      ]),
    over: () => over.resolve(),
  }
}
