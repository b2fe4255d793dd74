import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { git, makeRepository } from '../support/git.ts'
import { startProgram, temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// A proxy that is started while Postgres is away.

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname

let stand: Stand
beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  await makeRepository(join(stand.folder, 'acme/app.git'))
  await stand.grant({ repository: 'local/acme/app' })
}, 60_000)
afterAll(() => stand?.close())

const operations = async () =>
  (await stand.records()).filter(({ kind }) => kind === 'operation.start' || kind === 'operation.end')

test('with a spool it serves at once, and what it did is in the ledger when Postgres is back', async () => {
  const folder = temporaryFolder('away')
  const file = join(folder, 'drawbridge.yaml')
  writeFileSync(
    file,
    `
name: spooler
listen: { http: "127.0.0.1:0", ssh: off, admin: "127.0.0.1:0" }
redis: ${stand.redis.url}
postgres: ${stand.postgres.url}
state: state
upstreams: { local: { url: "file://${stand.folder}/" } }
ledger: { when_away: spool, spool: 1MiB }
`,
  )
  const serve = () =>
    startProgram(process.execPath, [SERVE, '--role', 'proxy', '--config', file], { deathSignal: 'TERM' })
  const list = async (program: Awaited<ReturnType<typeof serve>>) => {
    const line = await until(() => program.output().match(/^\{"kind":"ready".*$/m)?.[0], 'the proxy to be ready')
    const { url } = await stand.remote('http', 'local/acme/app', { urls: JSON.parse(line).urls })
    return (await git(['ls-remote', url])).status
  }
  await stand.postgres.stop()
  const first = await serve()
  expect(await list(first)).toBe(0)
  // Again with records in the spool already, which must be brought in before what was left open can be closed.
  await first.stop('SIGKILL')
  const second = await serve()
  expect(await list(second)).toBe(0)

  await stand.postgres.restart()
  const all = await until(async () => {
    const found = await operations()
    return found.length >= 8 && found
  }, 'the records to come in')
  // Each ls-remote is two requests: the advertisement, and the list.
  const of = (kind: string) =>
    all.flatMap(record => (record.kind === kind && 'operation' in record ? [record.operation] : []))
  expect(of('operation.start')).toHaveLength(4)
  expect(new Set(of('operation.end'))).toEqual(new Set(of('operation.start')))
  expect(of('operation.end')).toHaveLength(4)
  await second.stop()
  expect(await second.ended).toBe(0)
}, 60_000)

test('without one it listens, refuses by naming the ledger, and serves when Postgres is back', async () => {
  await stand.postgres.stop()
  const proxy = await stand.startProxy()
  const list = async () => git(['ls-remote', (await stand.remote('http', 'local/acme/app', proxy)).url])
  const refused = await list()
  expect(refused.status).not.toBe(0)
  expect(refused.stderr).toContain('record')
  await stand.postgres.restart()
  expect(await until(async () => (await list()).status === 0)).toBe(true)
}, 60_000)
