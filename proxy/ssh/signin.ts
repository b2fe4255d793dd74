import { ControlError, type ControlPlane } from '../control.ts'
import { signInAtBrowser } from '../signin.ts'
import type { SignIn } from './login.ts'

/** How long the key may take from the control plane to Redis. */
const KNOWN_MILLISECONDS_MAX = 5_000
const LOOK_MILLISECONDS = 50

/** Signs the holder of an unknown key in, and has them wait until the gate knows it. */
export function signInBy(
  control: ControlPlane,
  isKnown: (fingerprint: string) => Promise<boolean>,
  onFault: (error: unknown) => void,
): SignIn {
  return async (proved, show, gone) => {
    try {
      const ask = { why: 'This key is new here.', fresh: false, show, gone }
      const signin = await signInAtBrowser(control, proved, ask)
      return signin !== undefined && (await becomesKnown(proved.fingerprint))
    } catch (error) {
      if (gone.aborted) return false
      if (!(error instanceof ControlError)) throw error
      onFault(error)
      return false
    }
  }

  async function becomesKnown(fingerprint: string): Promise<boolean> {
    for (const until = performance.now() + KNOWN_MILLISECONDS_MAX; performance.now() < until; ) {
      if (await isKnown(fingerprint)) return true
      await new Promise(resolve => setTimeout(resolve, LOOK_MILLISECONDS))
    }
    return false
  }
}
