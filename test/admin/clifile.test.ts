import { execFile } from 'node:child_process'
import { chmodSync, readdirSync } from 'node:fs'
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

let engines: [Redis, Postgres]
let control: ControlPlane

beforeAll(async () => {
  engines = await Promise.all([startRedis(), startPostgres()])
  const urls = { redis: engines[0].url, postgres: engines[1].url }
  control = await startControlPlane(urls, { dana: 'developer' }, 'version: 1\nrequests: []\n')
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

test('the same sources make the same bytes, and nothing of the gate itself is among them', async () => {
  const [one, other] = [await makeCliFile(), await makeCliFile()]
  expect(one).toEqual(other)
  const paths = [...one.content.matchAll(/"([a-z_./-]+\.(?:ts|js))":"/gi)].map(([, path]) => path ?? '')
  expect(paths.length).toBeGreaterThan(10)
  expect(paths.filter(path => /^(?:admin|proxy|ca|audit|grant|deploy)\//.test(path))).toEqual([])
  expect(paths).not.toContain('cli/serve.ts')
})
