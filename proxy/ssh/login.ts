import type { AuthContext, AuthenticationType, Connection, KeyboardAuthContext, PublicKeyAuthContext } from 'ssh2'
import type { Origin } from '../../audit/record.ts'
import { fingerprint } from '../../ca/key.ts'
import { verifyUserSignature } from '../../ca/securitykey.ts'
import { printable } from '../git/pktline.ts'
import { type IdentityOptions, type Presented, type Recognised, recognise, type Unrecognised } from './identity.ts'

/** An unknown key whose holder has proved possession of it. */
export interface ProvedKey {
  readonly fingerprint: string
  readonly publicKey: Buffer
  readonly user: string
  readonly origin: Origin
}

/**
 * Signs somebody in whose key is not registered yet: shows them where to go by `show`, waits, and resolves once the key
 * stands for them (`findKey` knows it from then on) or to false. Rejects only for faults of its own.
 */
export type SignIn = (proved: ProvedKey, show: (text: string) => void, gone: AbortSignal) => Promise<boolean>

export interface LoginOptions extends IdentityOptions {
  /** Absent: unknown keys are refused, and whoever has no other is told how a key is registered. */
  readonly signIn?: SignIn
}

/** One refused attempt, for the record. */
export interface Refused {
  readonly code: string
  readonly reason: string
  readonly claimed: string
}

export interface LoginEvents {
  /** Somebody is logged in. `presented` is asked about again for each command. */
  onLogin(who: Recognised, presented: Presented): void
  /** Seconds this source must wait before this key or certificate (its fingerprint) is looked at. */
  wait(credential: string): number
  /** An attempt failed. Gives the milliseconds to hold the answer back. */
  onRefused(refused: Refused): number
  /** Waiting for a person at a browser begins: the login may now take this many milliseconds. */
  onSignIn(milliseconds: number): void
  onFault(error: unknown): void
}

const SIGN_IN_MILLISECONDS = 10 * 60_000
const BANNER_CHARACTERS_MAX = 400
const NO_KEY =
  'None of the keys you showed is known here, or none is yours any more. An administrator of this gate can register one: drawbridge key add.'
/** A key is asked about, then signed with; `none` comes first. Beyond that somebody only makes us look keys up. */
const REQUESTS_PER_ATTEMPT = 3

/**
 * The login on one connection (RFC 4252). ssh2 verifies nothing: what is accepted here is let in.
 *
 * CVE-2024-45337: clients offer several keys before they sign with one, and the offer of a key proves nothing. So what is
 * found out about a key is used only within the very request that carries its signature, and never kept from an earlier
 * one; `onLogin` is called with the key that signed.
 */
export function login(
  connection: Connection,
  origin: Origin,
  options: LoginOptions,
  attemptsMax: number,
  events: LoginEvents,
): void {
  const gone = new AbortController()
  connection.once('close', () => gone.abort())
  // Without sign-in the second is there for its text alone: who comes to it has no key that opened anything.
  const offered: AuthenticationType[] = options.signIn ? ['publickey'] : ['publickey', 'keyboard-interactive']
  let attempts = 0
  let requests = 0
  let user: string | undefined
  let proved: { readonly key: ProvedKey; readonly presented: Presented } | undefined
  let told = false

  connection.on('authentication', context => {
    user ??= context.username
    // RFC 4252, section 5, lets a server refuse a change of user name in mid-login; partial success must not carry over.
    if (context.username !== user) {
      connection.end('the user name changed in the middle of the login')
      return
    }
    attend(context).catch(error => {
      events.onFault(error)
      connection.end('the login failed by a fault of the server; try again')
    })
  })

  async function attend(context: AuthContext): Promise<void> {
    if (attempts >= attemptsMax || ++requests > attemptsMax * REQUESTS_PER_ATTEMPT) {
      connection.end('too many login attempts; offer fewer keys (IdentitiesOnly=yes)')
      return
    }
    // Clients begin with `none` to learn what there is; it is no attempt.
    if (context.method === 'none') return answer(() => context.reject(offered))
    if (context.method === 'publickey') return publicKey(context)
    if (context.method === 'keyboard-interactive' && proved && options.signIn) {
      return keyboardInteractive(context, options.signIn, proved)
    }
    if (context.method === 'keyboard-interactive' && !options.signIn) return farewell(context)
    return refuse(context, { code: 'method', reason: `login by ${context.method} is not offered` })
  }

  async function publicKey(context: PublicKeyAuthContext): Promise<void> {
    const presented: Presented = {
      user: context.username,
      algorithm: context.algorithm,
      blob: Buffer.from(context.key.data),
      address: origin.address,
    }
    const seconds = events.wait(fingerprint(presented.blob))
    if (seconds > 0) {
      connection.end(`too many failed logins from your address; wait ${seconds} s`)
      return
    }
    const who = await recognise(presented, options)
    // One unknown key waits for a person; the others are passed over, and are no attempts: agents hold many.
    if (who.kind === 'unrecognised' && who.unknown && proved) {
      return answer(() => context.reject([...offered, 'keyboard-interactive']))
    }
    const proof = who.kind === 'recognised' ? who.proof : options.signIn && who.unknown
    if (who.kind === 'unrecognised') tell(who)
    if (!proof) return refuse(context, reasonOf(who))
    // Without a signature the client only asks whether the key would do; accepting that is no login. ssh2 goes by
    // `signature`, so nothing else may decide it here.
    if (context.signature === undefined) return answer(() => context.accept())
    const { blob, signatureBlob } = context
    const signed = blob && signatureBlob && verifyUserSignature(proof.key, blob, signatureBlob, proof.algorithm)
    if (signed !== true) {
      return refuse(context, {
        code: 'bad-signature',
        reason: `the signature is not by ${fingerprint(presented.blob)}`,
      })
    }
    if (who.kind === 'recognised') return admit(context, who, presented)
    const key = { fingerprint: fingerprint(presented.blob), publicKey: presented.blob, user: presented.user, origin }
    proved = { key, presented }
    // Known to nobody so far, and on record so if the client leaves it at that.
    events.onRefused({ ...reasonOf(who), claimed: printable(context.username, 80) })
    // Clients begin anew after a partial success: with `publickey` still on offer an agent's other keys get their turn first.
    return answer(() => context.reject([...offered, 'keyboard-interactive'], true))
  }

  /**
   * RFC 4256 with no prompts: the client shows the text at once and answers at once; the request itself is answered when
   * the browser is done. The same connection then goes on with the command it came for.
   */
  async function keyboardInteractive(
    context: KeyboardAuthContext,
    signIn: SignIn,
    { key, presented }: NonNullable<typeof proved>,
  ): Promise<void> {
    proved = undefined
    events.onSignIn(SIGN_IN_MILLISECONDS)
    const over = AbortSignal.any([gone.signal, AbortSignal.timeout(SIGN_IN_MILLISECONDS), aborted(context)])
    const done = await signIn(key, text => answer(() => context.prompt([], 'Drawbridge', text, () => {})), over)
    const who = done && !over.aborted ? await recognise(presented, options) : undefined
    if (who?.kind !== 'recognised') {
      return refuse(context, { code: 'sign-in', reason: `the sign-in for key ${key.fingerprint} was not completed` })
    }
    return admit(context, who, presented)
  }

  /** The same sentence to everybody, so that it tells nothing of who is known; once. */
  function farewell(context: KeyboardAuthContext): void {
    const over = () => answer(() => context.reject(['publickey']))
    if (told) over()
    else answer(() => context.prompt([], 'Drawbridge', NO_KEY, over))
    told = true
  }

  /** A request that was overtaken by another is not accepted any more, and then nobody is logged in by it. */
  function admit(context: AuthContext, who: Recognised, presented: Presented): void {
    if (connection.authenticated) return
    answer(() => context.accept())
    if (connection.authenticated) events.onLogin(who, presented)
  }

  async function refuse(context: AuthContext, why: { code: string; reason: string }): Promise<void> {
    attempts++
    const wait = events.onRefused({ ...why, claimed: printable(context.username, 80) })
    if (wait > 0) await pause(wait, gone.signal)
    answer(() => context.reject(offered))
  }

  /** One sentence to the person about a certificate; unknown keys are usually those an agent tries first. */
  function tell({ tell: text }: Unrecognised): void {
    if (text === undefined || told) return
    told = true
    answer(() => connection.authBanner(`drawbridge: ${printable(text, BANNER_CHARACTERS_MAX)}\r\n`))
  }

  /** A client that left, or withdrew its request by a second one, leaves nobody to answer: ssh2 then throws. */
  function answer(say: () => void): void {
    if (gone.signal.aborted) return
    try {
      say()
    } catch {
      connection.end('the login requests overlap')
    }
  }
}

function reasonOf(who: Recognised | Unrecognised): { code: string; reason: string } {
  return who.kind === 'unrecognised' ? who : { code: 'unknown-key', reason: 'the key is not registered' }
}

/** A client may drop a request by making another (RFC 4256, section 3.1). */
function aborted(context: KeyboardAuthContext): AbortSignal {
  const controller = new AbortController()
  context.once('abort', () => controller.abort())
  return controller.signal
}

function pause(milliseconds: number, until: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(done, milliseconds)
    until.addEventListener('abort', done, { once: true })
    function done() {
      clearTimeout(timer)
      until.removeEventListener('abort', done)
      resolve()
    }
  })
}
