import { expect, test } from 'vitest'
import { askedIn } from '../../cli/access/run.ts'

// What a refusal looks like on git's stderr, over each transport.

test.each<[string, string, object]>([
  [
    'fatal: remote error: no open window for you on acme/api\nask with: git access request acme/api --fetch --for 1h\n(operation op-1)\n',
    'acme/api',
    { fetch: true, ref: [], for: '1h' },
  ],
  [
    'remote: refs/heads/x: no        \nremote: ask with: git access request acme/api --push --delete --ref x --ref refs/tags/v1 --for 1h        \n',
    'acme/api',
    { push: true, delete: true, ref: ['x', 'refs/tags/v1'], for: '1h' },
  ],
])('the line that asks is found in %j', (said, repository, wish) => {
  const asked = askedIn(said)
  expect({ ...asked?.aim, ...asked?.length }).toMatchObject({ repositories: [repository], ...wish })
})

test.each([
  '',
  'error: failed to push some refs',
  'remote: I would ask with: git access request acme/api --fetch --for 1h',
  'ask with: git access request acme/api --fetch --for 1h; reboot',
  'ask with: git access request acme/api --fetch --reason $(reboot)',
  'ask with: git access request acme/api --break-glass',
  'ask with: git access request acme/api --fetch --token-file /etc/passwd',
])('nothing else is taken for one: %j', said => {
  expect(askedIn(said)).toBeUndefined()
})
