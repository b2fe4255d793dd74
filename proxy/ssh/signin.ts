import { publicKeyLine } from '../../ca/key.ts'
import { ControlError, type ControlPlane } from '../control.ts'
import type { SignIn } from './login.ts'

/**
 * Signs the holder of an unknown key in: the control plane gives a code, the person confirms it in a browser, and from then on
 * the key stands for them. The control plane hears of no key whose possession was not proved.
 */

interface Device {
  readonly device_code: string
  readonly user_code: string
  readonly verification_uri_complete: string
}

/** How long the control plane waits for a browser before it answers that it still does; milliseconds, with room. */
const WAIT_MILLISECONDS = 10_000
/** Between answers that come at once, because too many wait. */
const PAUSE_MILLISECONDS = 500
/** How long the key may take from the control plane to Redis. */
const KNOWN_MILLISECONDS_MAX = 5_000
const LOOK_MILLISECONDS = 50

export function signInBy(
  control: ControlPlane,
  isKnown: (fingerprint: string) => Promise<boolean>,
  onFault: (error: unknown) => void,
): SignIn {
  return async (proved, show, gone) => {
    const caller = { principal: proved.user, origin: proved.origin }
    const ask = async <T>(path: string, body: object) =>
      await control.call<T>({ caller, method: 'POST', path, body, gone, wait: WAIT_MILLISECONDS })
    try {
      const { address, agent } = proved.origin
      const client = `ssh (${agent})`.slice(0, 100)
      const device = await ask<Device>('/login/key', { public_key: publicKeyLine(proved.publicKey), address, client })
      show(
        `This key is new here. To sign in, open\n\n    ${device.verification_uri_complete}\n\nand check that the page shows ${device.user_code}. Waiting for the browser ...\n`,
      )
      while (!gone.aborted) {
        const { state } = await ask<{ state: string }>('/login/token', { device_code: device.device_code })
        if (state === 'bound') return await becomesKnown(proved.fingerprint)
        if (state !== 'waiting') return false
        await pause(PAUSE_MILLISECONDS)
      }
    } catch (error) {
      if (gone.aborted) return false
      if (!(error instanceof ControlError)) throw error
      onFault(error)
    }
    return false
  }

  async function becomesKnown(fingerprint: string): Promise<boolean> {
    for (const until = performance.now() + KNOWN_MILLISECONDS_MAX; performance.now() < until; ) {
      if (await isKnown(fingerprint)) return true
      await pause(LOOK_MILLISECONDS)
    }
    return false
  }
}

const pause = (milliseconds: number) => new Promise<void>(resolve => setTimeout(resolve, milliseconds))
