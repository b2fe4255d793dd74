import { join } from 'node:path'
import type { Person } from './people.ts'
import { quoted } from './shell.ts'

/** What var/trial/ready.json says. */
export interface Ready {
  readonly http: string
  readonly ssh: string
  readonly admin: string
  readonly people: readonly Person[]
  /** `<upstream>/<path>`. */
  readonly repository: string
}

/**
 * The lines to paste: refused, asked for, approved, cloned, pushed, closed again, and the record of it all.
 *
 * @param bin where the commands are
 * @param signIn whether there is a provider to sign in by
 */
export function welcome(ready: Ready, bin: string, signIn = false): string {
  const { http, ssh, admin, repository } = ready
  const person = (role: string) => ready.people.find(({ roles }) => roles.includes(role))?.principal ?? role
  const [developer, approver, auditor] = [person('developer'), person('approver'), person('auditor')]
  const url = `${http}/${repository}.git`
  const name = repository.split('/').at(-1)
  return `
ready   http ${http}   ssh ${ssh}   admin ${admin}   (Ctrl-C stops everything)

Paste these into another terminal.

# ${developer} asks, ${approver} approves, ${auditor} reads the record: each is a command that runs another as that person
export PATH=${quoted(bin)}:"$PATH"

# 1. no window, no way in
${developer} git clone ${url} /tmp/${name}

# 2. ${developer} asks for one; the number of the request is printed
REQUEST=$(${developer} git access request ${repository} --fetch --push --for 1h --reason 'trying it out')

# 3. ${approver} sees what is asked for, and says yes
${approver} drawbridge request list
${approver} drawbridge request approve $REQUEST

# 4. now git is git
${developer} git clone ${url} /tmp/${name}
${developer} git -C /tmp/${name} commit --allow-empty -m 'Through the gate'
${developer} git -C /tmp/${name} push origin HEAD:refs/heads/mine

# the same over stock ssh, with nothing installed; there is request, wait, release, pending, approve and deny as well
ssh -F ${quoted(join(bin, '..', 'ssh', developer))} gate status

# 5. but what was not asked for is refused, with the line that asks for it
${developer} git -C /tmp/${name} push origin :refs/heads/mine

# 6. ${approver} closes the window; from here on nothing gets through, and whatever still ran would be cut
${approver} drawbridge request deny $REQUEST --reason 'enough'
${developer} git -C /tmp/${name} fetch

# 7. the record of it
${auditor} drawbridge audit list
${signIn ? signInLines(ssh) : ''}
`
}

const signInLines = (ssh: string) => `
# 8. a new machine: a key the gate has never seen, and a browser. Log in as alice, bob or carol, without a password
ssh-keygen -q -t ed25519 -N '' -f /tmp/unseen
ssh -i /tmp/unseen -o IdentitiesOnly=yes ${ssh} whoami
`
