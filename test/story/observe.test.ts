import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createObservedBoard } from '../../grant/observe.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// A pilot: nobody has a window yet, everything works, and the record says what would not have.

let stand: Stand
let bare: string
let redis: Client

beforeAll(async () => {
  stand = await startStand()
  redis = new Client(stand.redis.url)
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { branches: ['topic'] })
  await createObservedBoard({ redis }).put({ repositories: [{ match: ['web/acme/*'], observe: true }] })
})
afterAll(async () => {
  redis?.disconnect()
  await stand?.close()
})

test('a clone, a push and a forced push go through without a window, and each is told and recorded as what it is', async () => {
  const { url } = await stand.remote('http', 'web/acme/app')
  await until(async () => (await git(['ls-remote', url])).status === 0, 'the proxy to hear of it')
  const work = await cloneRepository(url)
  await commitFile(work, 'new', 'content')
  const pushed = await git(['push', 'origin', 'main'], { cwd: work })
  expect(pushed.stderr).toContain('only observed for now; otherwise: no open window for you on web/acme/app')
  expect(pushed.stderr).toContain('git access request web/acme/app --push')

  // Nor does a window for some refs hide the others.
  const some = await stand.grant({ repository: 'web/acme/app', actions: ['fetch'], refs: ['main'] })
  expect(await gitOk(['ls-remote', url])).toContain('refs/heads/topic')
  await gitOk(['fetch', '-q', '--refetch', 'origin', 'topic'], { cwd: work })
  await stand.revoke(some)

  // A window that only moves forward does not cover this one.
  await stand.grant({ repository: 'web/acme/app', actions: ['fetch', 'update'] })
  await gitOk(['reset', '-q', '--hard', 'HEAD~1'], { cwd: work })
  await gitOk(['push', '-q', '--force', 'origin', 'main'], { cwd: work })
  expect((await refsOf(bare))['refs/heads/main']).toBe(await gitOk(['rev-parse', 'HEAD'], { cwd: work }))

  const codes = async (kind: 'operation.start' | 'operation.end') =>
    (await stand.records()).flatMap(record =>
      record.kind === kind && record.action !== 'list' ? [record.observed?.code] : [],
    )
  // Of the last two it was known only once they had begun.
  expect(await codes('operation.start')).toEqual(['no-grant', 'no-grant', undefined, undefined])
  expect(await codes('operation.end')).toEqual([undefined, undefined, 'ref-refused', 'ref-refused'])
})

test('the same person who is locked out, and the same repository by a way that is not observed, are refused', async () => {
  const { url } = await stand.remote('http', 'web/acme/app')
  const elsewhere = await stand.remote('http', 'local/acme/app')
  expect((await git(['ls-remote', elsewhere.url])).stderr).toContain('no open window')
  await stand.store.lock('alice', 'key lost', 1)
  expect((await git(['ls-remote', url])).stderr).toContain('your access is locked')
  await stand.store.unlock('alice', 2)
})
