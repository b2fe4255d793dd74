import { fingerprint } from '../../ca/key.ts'
import { ControlError, type ControlPlane } from '../control.ts'
import { printable } from '../git/pktline.ts'
import { signInAtBrowser } from '../signin.ts'
import type { OwnCommand } from '../ssh/session.ts'
import { readLine } from './line.ts'

const USAGE = 'usage: login [--mfa]'

/** `ssh GATE login [--mfa]`: signs in anew by the key in use, before its sign-in ends or for a second factor. */
export function loginWord(control: ControlPlane): OwnCommand {
  return async (args, { caller, publicKey, stdout, stderr, gone }) => {
    const say = (sentence: string | undefined) =>
      sentence === undefined || stderr.write(`drawbridge: ${printable(sentence, 500)}\n`)
    const { principal, origin, identity, credentials } = caller
    try {
      const line = readLine(args, { flags: ['mfa'] })
      if (typeof line === 'string' || line.words.length > 0) {
        throw new ControlError(2, typeof line === 'string' ? line : 'login takes no arguments', USAGE)
      }
      if (identity.kind === 'key' && !credentials.some(name => name.startsWith('signin:'))) {
        throw new ControlError(
          1,
          'this key is registered as yours, and needs no sign-in',
          'for a second factor or a certificate use another key, or git access login',
        )
      }
      const proved = { fingerprint: fingerprint(publicKey), publicKey, user: principal, origin }
      const ask = { why: `You are ${printable(principal, 200)}.`, fresh: line.flags.has('mfa'), gone }
      const signin = await signInAtBrowser(control, proved, { ...ask, show: text => stderr.write(text) })
      if (signin === undefined) {
        throw new ControlError(1, 'nothing came of it; what you had stays as it was', 'type it again')
      }
      stdout.write(`${printable(`signed in as ${signin.principal} until ${signin.expires_at}`, 400)}\n`)
      return 0
    } catch (error) {
      if (!(error instanceof ControlError)) throw error
      say(error.message)
      say(error.hint)
      return error.status
    }
  }
}
