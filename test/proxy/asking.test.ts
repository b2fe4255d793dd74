import { expect, test } from 'vitest'
import { askFor } from '../../proxy/asking.ts'
import type { RefUpdate } from '../../proxy/git/refupdate.ts'

const ZERO = '0'.repeat(40)
const update = (ref: string, kind: RefUpdate['kind']): RefUpdate => ({ ref, kind, old: ZERO, new: ZERO })

test.each<[RefUpdate[], string]>([
  [[update('refs/heads/main', 'update')], '--push --ref main'],
  [[update('refs/heads/old', 'delete')], '--delete --ref old'],
  [[update('refs/heads/a', 'create'), update('refs/heads/b', 'delete')], '--push --delete --ref a --ref b'],
  [[update('refs/tags/v1', 'create')], '--tag --ref refs/tags/v1'],
  [[update('refs/tags/v1', 'update')], '--tag --force --ref refs/tags/v1'],
  [[update('refs/tags/v1', 'delete')], '--delete --tag --ref refs/tags/v1'],
  [['a', 'b', 'c', 'd'].map(name => update(`refs/heads/${name}`, 'create')), '--push'],
])('the line asks for what was refused: %j', (lacking, asked) => {
  expect(askFor('acme/api', lacking)).toBe(`ask with: git access request acme/api ${asked} --for 1h`)
})

// Somebody else names a branch, a colleague merges it on, is refused and pastes the line.
test.each(['$(reboot)', 'a;reboot', 'a`b`', "a'b", 'a|b', 'a&b', 'ünter'])('a branch called %s is not pasted', name => {
  expect(askFor('acme/api', [update(`refs/heads/${name}`, 'update')])).not.toContain(name)
})
