import { execFile } from 'node:child_process'
import { chmodSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeCliFile } from '../../admin/clifile.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// The CLI as a developer fetches it from the gate: one line, one file, nothing but Node on the machine.

const run = promisify(execFile)

const POLICY = `version: 1
groups: { leads: [ben] }
requests:
  - trigger: [clone]
    repositories: acme/app
    approvers: leads
    timeout: "1h"
`

let engines: [Redis, Postgres]
let control: ControlPlane

beforeAll(async () => {
  engines = await Promise.all([startRedis(), startPostgres()])
  const urls = { redis: engines[0].url, postgres: engines[1].url }
  control = await startControlPlane(urls, { dana: 'developer', ben: 'developer,approver' }, POLICY)
})
afterAll(async () => {
  await control?.close()
  await Promise.all(engines?.map(engine => engine.stop()) ?? [])
})

test('one line fetches it, its checksum fits, and it does what the CLI does', async () => {
  const home = temporaryFolder('home')
  const at = `${control.url}/cli/git-access.mjs`
  await run('curl', ['-fsS', '--remote-name-all', at, `${at}.sha256`], { cwd: home })
  expect((await run('sha256sum', ['-c', 'git-access.mjs.sha256'], { cwd: home })).stdout).toContain('OK')

  const program = join(home, 'git-access')
  await run('cp', ['git-access.mjs', 'git-access'], { cwd: home })
  chmodSync(program, 0o755)
  const PATH = `${join(process.execPath, '..')}:/usr/bin:/bin`
  const env = { PATH, HOME: home, ...control.as('dana') }
  const both = await Promise.all([run(program, ['whoami'], { env }), run(program, ['whoami'], { env })])
  for (const { stdout } of both) expect(stdout).toContain('dana')
  const kept = readdirSync(join(home, '.local/share/drawbridge'))
  expect(kept).toEqual([expect.stringMatching(/^cli-[0-9a-f]{16}$/)])
  const helper = join(home, '.local/share/drawbridge', kept[0] ?? '', 'cli/git-credential-drawbridge.ts')
  const called = run(process.execPath, [helper, '--for', control.url, 'store'], { env })
  called.child.stdin?.end('\n')
  expect((await called).stdout).toBe('')
  await expect(run(program, ['request', 'x'], { env })).rejects.toMatchObject({ code: 2 })
}, 30_000)

test('called by another name it is that program: what approvers type, and git’s helper', async () => {
  const home = temporaryFolder('home')
  writeFileSync(join(home, 'git-access'), (await makeCliFile()).content, { mode: 0o755 })
  for (const name of ['drawbridge', 'git-credential-drawbridge']) symlinkSync('git-access', join(home, name))
  const PATH = `${home}:${join(process.execPath, '..')}:/usr/bin:/bin`
  const env = { PATH, HOME: home, ...control.as('ben') }

  const asked = await run('git', ['access', 'request', 'acme/app', '--fetch', '--reason', 'a look'], {
    env: { ...env, ...control.as('dana') },
  })
  const id = asked.stdout.trim()
  await run('drawbridge', ['request', 'approve', id], { env })
  const shown = JSON.parse((await run('drawbridge', ['request', 'show', id, '--json'], { env })).stdout)
  expect(shown).toMatchObject({ id, state: 'approved' })
  // Ledgers and receipts are checked without the gate, by the same arithmetic.
  expect((await run('drawbridge', ['audit', 'verify', '--help'], { env })).stdout).toContain('--receipt')
  // What is for the gate's own machine is not in it.
  await expect(run('drawbridge', ['serve'], { env })).rejects.toMatchObject({ code: 2 })

  const helper = run('git-credential-drawbridge', ['--for', 'https://gate.example', 'get'], { env })
  helper.child.stdin?.end('protocol=https\nhost=gate.example\n\n')
  expect((await helper).stdout).toContain('password=')
}, 30_000)

test('the same sources make the same bytes, and nothing of the gate itself is among them', async () => {
  const [one, other] = [await makeCliFile(), await makeCliFile()]
  expect(one).toEqual(other)
  const paths = [...one.content.matchAll(/"([a-z_./-]+\.(?:ts|js))":"/gi)].map(([, path]) => path ?? '')
  expect(paths.length).toBeGreaterThan(10)
  expect(paths.filter(path => /^(?:admin|proxy|ca|grant|deploy)\//.test(path))).toEqual([])
  for (const local of ['serve', 'ca', 'doctor', 'policy']) expect(paths).not.toContain(`cli/${local}.ts`)
})
