import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Record } from '../../audit/record.ts'
import { type ControlPlane, type Ran, startControlPlane } from '../support/control.ts'
import { cloneRepository, gitOk, makeRepository } from '../support/git.ts'
import { until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// The policy is in a repository behind the gate. What its branch says comes into force as a whole or not at all.

const PEOPLE = { dana: 'developer', mona: 'approver', root: 'admin' } as const
const rule = (approvers: string) =>
  `version: 1\nrequests: [{ name: push, trigger: push, repositories: local/acme/*, approvers: ${approvers} }]\n`

let stand: Stand
let control: ControlPlane
let start: () => Promise<ControlPlane>
let work: string

beforeAll(async () => {
  stand = await startStand({ proxies: 1 })
  work = await cloneRepository(await makeRepository(join(stand.folder, 'platform', 'access.git')))
  await stand.store.doubt()
  const url = stand.proxies[0]?.urls.http ?? ''
  const policy = { repository: 'local/platform/access', ref: 'refs/heads/main', path: 'policy', every: 60_000, url }
  const engines = { redis: stand.redis.url, postgres: stand.postgres.url }
  const state = join(stand.folder, 'state')
  start = () => startControlPlane(engines, PEOPLE, '', { policy, state })
  control = await start()
})
afterAll(async () => {
  await control?.close()
  await stand?.close()
})

/** As a merge at the host would, and the gate looks. */
async function merge(text: string): Promise<string> {
  mkdirSync(join(work, 'policy'), { recursive: true })
  writeFileSync(join(work, 'policy', 'main.yaml'), text)
  // Neither is policy: a test beside it, and what stands elsewhere.
  writeFileSync(join(work, 'policy', 'main.test.yaml'), 'tests: []\n')
  appendFileSync(join(work, 'other.yaml'), 'nonsense\n')
  await gitOk(['add', '.'], { cwd: work })
  await gitOk(['commit', '--quiet', '-m', 'policy'], { cwd: work })
  await gitOk(['push', '--quiet', 'origin', 'HEAD:main'], { cwd: work })
  await control.reload('')
  return (await gitOk(['rev-parse', 'HEAD'], { cwd: work })).trim().slice(0, 12)
}

async function records(kind: Record['kind']): Promise<Record[]> {
  const listed = await control.run('root', 'drawbridge', 'audit', 'list', '--kind', kind, '--json')
  return listed.stdout.split('\n').flatMap(line => (line === '' ? [] : [JSON.parse(line).record]))
}

const explain = (): Promise<Ran> =>
  control.run('dana', 'git-access', 'explain', 'local/acme/app', '--push', '--ref', 'main')

test('nothing can be asked for before it was read; then it holds, and was read under a window, on record', async () => {
  const before = await explain()
  expect(before.status).not.toBe(0)
  expect(before.stderr).toContain('does not load')
  const commit = await merge(rule('leads'))
  expect((await explain()).stdout).toContain('one of leads')
  await until(async () => (await records('policy.loaded')).length === 1)
  expect(await records('policy.loaded')).toMatchObject([{ reason: `local/platform/access ${commit}` }])
  expect(await records('grant.issued')).toMatchObject([
    { principal: 'service:policy', repository: 'local/platform/access', actions: ['fetch'], refs: ['refs/heads/main'] },
  ])
  await until(async () => (await records('operation.start')).some(one => 'action' in one && one.action === 'fetch'))
})

test('a version that does not load changes nothing and is told with its place, once; the next one holds', async () => {
  const commit = await merge(`${rule('leads')}  - { trigger: pusch }\n`)
  await control.reload('')
  // What stood there before there was a policy may have been looked at, too.
  const ofIt = async () =>
    (await records('policy.refused')).filter(one => 'reason' in one && one.reason?.includes(commit))
  await until(async () => (await ofIt()).length > 0)
  const refused = await ofIt()
  expect(refused).toHaveLength(1)
  expect(refused).toMatchObject([{ reason: expect.stringContaining(`local/platform/access ${commit}: `) }])
  expect(refused).toMatchObject([{ reason: expect.stringContaining('local/platform/access:policy/main.yaml:') }])
  expect((await explain()).stdout).toContain('one of leads')
  await merge(rule('{ n: 2, of: [leads] }'))
  expect((await explain()).stdout).toContain('2 of leads')
})

test('what was in force is so again after a restart, though the repository cannot be read', async () => {
  await control.run('root', 'drawbridge', 'lock', 'service:policy', '--reason', 'no more')
  await control.close()
  control = await start()
  expect((await explain()).stdout).toContain('2 of leads')
  await merge(rule('directors'))
  expect((await explain()).stdout).toContain('2 of leads')
  await control.run('root', 'drawbridge', 'unlock', 'service:policy', '--reason', 'again')
  await control.reload('')
  expect((await explain()).stdout).toContain('one of directors')
})
