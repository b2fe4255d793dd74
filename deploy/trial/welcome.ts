import type { Person } from './people.ts'

/** What var/trial/ready.json says. */
export interface Ready {
  readonly http: string
  readonly ssh: string
  readonly admin: string
  readonly people: readonly Person[]
  /** `<upstream>/<path>`. */
  readonly repository: string
}

/** The lines to paste: a refusal, a window, a clone, a push, and the record of them. */
export function welcome(ready: Ready): string {
  const { http, ssh, admin, people, repository } = ready
  const person = (role: string) => people.find(({ roles }) => roles.some(held => held === role))
  const [developer, boss, auditor] = [person('developer'), person('admin'), person('auditor')]
  const [scheme, rest] = http.split('://')
  const url = `${scheme}://${developer?.principal}:$DEVELOPER@${rest}/${repository}.git`
  const name = repository.split('/').at(-1)
  return `
ready   http ${http}   ssh ${ssh}   admin ${admin}   (Ctrl-C stops everything)

Paste these into another terminal, in this folder.

# who is who
DEVELOPER=${developer?.token}
ADMIN=${boss?.token}
AUDITOR=${auditor?.token}

# 1. no window, no way in
git clone ${url} /tmp/${name}

# 2. a window: ${developer?.principal} may fetch and push for an hour
curl -sS ${admin}/api/v1/grants -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \\
  -d '{"principal":"${developer?.principal}","repository":"${repository}","actions":["fetch","create","update"],"refs":[],"for":"1h","reason":"trying it out"}'

# 3. now git is git
git clone ${url} /tmp/${name}
git -C /tmp/${name} -c user.name=${developer?.principal} -c user.email=${developer?.principal}@example.org commit --allow-empty -m 'Through the gate'
git -C /tmp/${name} push origin HEAD:refs/heads/mine

# 4. the record of it
curl -sS ${admin}/api/v1/audit -H "Authorization: Bearer $AUDITOR"

`
}
