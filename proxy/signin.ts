import { publicKeyLine } from '../ca/key.ts'
import type { ControlPlane } from './control.ts'
import type { ProvedKey } from './ssh/login.ts'

/** What became of it: for whom the key stands, and until when (RFC 3339). */
export interface Signin {
  readonly principal: string
  readonly expires_at: string
}

interface Device {
  readonly device_code: string
  readonly user_code: string
  readonly verification_uri_complete: string
}

type Answer = { readonly state: 'waiting' | 'over' | 'denied' } | { readonly state: 'bound'; readonly signin: Signin }

/** How long the control plane waits for a browser before it answers that it still does; milliseconds, with room. */
const WAIT_MILLISECONDS = 10_000
/** Between answers that come at once, because too many wait. */
const PAUSE_MILLISECONDS = 500

/**
 * Signs the holder of a key in: the control plane gives a code, a person confirms it in a browser, and from then on the key
 * stands for them. The control plane hears of no key whose possession was not proved.
 *
 * @param why the first sentence of what is shown, without the space behind it
 * @param fresh the provider is to ask again, with a second factor where it knows one
 * @returns undefined when it was denied, nobody came, or the holder has gone
 */
export async function signInAtBrowser(
  control: ControlPlane,
  proved: ProvedKey,
  ask: { readonly why: string; readonly fresh: boolean; show(text: string): void; readonly gone: AbortSignal },
): Promise<Signin | undefined> {
  const { why, fresh, show, gone } = ask
  const caller = { principal: proved.user, origin: proved.origin }
  const post = async <T>(path: string, body: object) =>
    await control.call<T>({ caller, method: 'POST', path, body, gone, wait: WAIT_MILLISECONDS })
  const { address, agent } = proved.origin
  const client = `ssh (${agent})`.slice(0, 100)
  const key = { public_key: publicKeyLine(proved.publicKey), address, client, ...(fresh && { fresh }) }
  const device = await post<Device>('/login/key', key)
  show(
    `${why} To sign in, open\n\n    ${device.verification_uri_complete}\n\nand check that the page shows ${device.user_code}. Waiting for the browser ...\n`,
  )
  while (!gone.aborted) {
    const answer = await post<Answer>('/login/token', { device_code: device.device_code })
    if (answer.state === 'bound') return answer.signin
    if (answer.state !== 'waiting') return undefined
    await new Promise(resolve => setTimeout(resolve, PAUSE_MILLISECONDS))
  }
  return undefined
}
