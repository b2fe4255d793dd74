import { publicKeyLine } from '../ca/key.ts'
import { ACTIONS } from '../grant/grant.ts'
import type { Store } from '../grant/store.ts'
import { ControlError, type ControlPlane } from './control.ts'
import { printable } from './git/pktline.ts'
import type { OwnCommand } from './ssh/session.ts'
import { auditWord } from './words/audit.ts'
import { loginWord } from './words/login.ts'
import { pendingOf, requestWords } from './words/requests.ts'

const CERTIFICATE_CHARACTERS_MAX = 16_384

/** What people may ask over stock ssh besides git: `ssh git@gate whoami`. */
export function words({
  store,
  control,
}: {
  readonly store: Pick<Store, 'standing'>
  readonly control: ControlPlane
}): Record<string, OwnCommand> {
  const { status: statusOfRequest, ...deciding } = requestWords(control)
  return {
    ...deciding,
    audit: auditWord(control),
    login: loginWord(control),
    whoami: async (_args, { caller, stdout }) => {
      const { identity } = caller
      const by =
        identity.kind === 'certificate'
          ? `certificate ${identity.serial} (${identity.keyId})`
          : identity.kind === 'key'
            ? `key ${identity.fingerprint}`
            : `token ${identity.id}`
      stdout.write(`${printable(caller.principal, 200)}, by ${printable(by, 300)}\n`)
      return 0
    },
    // The key in use, signed until its sign-in ends: `ssh git@gate cert > ~/.ssh/id_ed25519-cert.pub`.
    cert: async (_args, { caller, publicKey, stdout, stderr, gone }) => {
      const body = { public_key: publicKeyLine(publicKey) }
      const asked = { caller, method: 'POST', path: '/certificates', body, gone } as const
      try {
        const { certificate } = await control.call<{ certificate: string }>(asked)
        stdout.write(`${printable(certificate, CERTIFICATE_CHARACTERS_MAX)}\n`)
        return 0
      } catch (error) {
        if (!(error instanceof ControlError)) throw error
        stderr.write(`drawbridge: ${printable(error.message, 300)}\n`)
        return error.status
      }
    },
    status: async (args, context) => {
      if (args.length > 0) return await statusOfRequest(args, context)
      const { caller, stdout } = context
      const { now, locked, grants } = await store.standing(caller.principal)
      if (locked !== undefined) {
        stdout.write(`locked: ${printable(locked, 300)}\n`)
        return 1
      }
      const open = grants.filter(grant => grant.state === 'live' || grant.state === 'scheduled')
      if (open.length === 0) stdout.write('no window is open for you\n')
      for (const { id, repository, actions, refs, ends, state, starts } of open) {
        const what = ACTIONS.filter(action => actions.includes(action)).join(',')
        const where = refs.length > 0 ? ` ${refs.join(',')}` : ''
        const until = new Date(state === 'scheduled' ? starts : ends).toISOString()
        const left = Math.max(0, Math.round((ends - now) / 60_000))
        const when = state === 'scheduled' ? `opens ${until}` : `until ${until} (${left} min)`
        stdout.write(`${id}  ${printable(`${repository}  ${what}${where}`, 500)}  ${when}\n`)
      }
      // Windows are known without the control plane; that it is away takes nothing from them.
      for (const line of await pendingOf(control, context).catch(() => [])) stdout.write(`${line}\n`)
      return 0
    },
  }
}
