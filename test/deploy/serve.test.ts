import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { PROXY_FLAGS } from '../../deploy/vm.ts'
import { startPostgres } from '../support/postgres.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { startRedis } from '../support/redis.ts'

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname
const folder = temporaryFolder('serve')
const file = join(folder, 'drawbridge.yaml')
let settings = ''

beforeAll(async () => {
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()])
  settings = `
name: gate
listen: { http: "127.0.0.1:0", ssh: off, admin: "127.0.0.1:0" }
redis: ${redis.url}
postgres: ${postgres.url}
upstreams: { local: { url: "file:///srv/git/" } }
limits: { drain: 1s }
`
})

const serve = (...args: string[]) =>
  startProgram(process.execPath, [SERVE, '--config', file, ...args], { deathSignal: 'TERM' })

/** The line on stdout that says a gate serves. */
async function urlsOf(program: Program): Promise<Record<string, string>> {
  const line = await until(
    () =>
      program
        .output()
        .split('\n')
        .find(text => text.startsWith('{"kind":"ready"')),
    'the gate to be ready',
  )
  return JSON.parse(line).urls
}

test('wrong settings end it with status 78 and every mistake, one a line', async () => {
  writeFileSync(file, 'redis: nowhere\npostgres: nowhere\nupstreams: {}\n')
  const program = await serve('--role', 'proxy')
  expect(await program.ended).toBe(78)
  const lines = program.output().trim().split('\n')
  expect(lines).toHaveLength(2)
  expect(lines[0]).toMatch(/^drawbridge: .*drawbridge\.yaml:1:8: redis: expected .*found "nowhere"$/)
})

test('a wrong command line ends it with status 64 and the usage', async () => {
  for (const args of [['--role', 'king'], ['--no-such']]) {
    const program = await serve(...args)
    expect(await program.ended).toBe(64)
    expect(program.output()).toContain('usage: drawbridge serve [--role proxy|admin|ca]')
  }
})

test('one role serves, keeps its settings when SIGHUP finds a bad file, and ends with 0 at SIGTERM', async () => {
  writeFileSync(file, settings)
  const program = await serve('--role', 'admin')
  const { admin } = await urlsOf(program)
  expect((await fetch(`${admin}/healthz`)).status).toBe(200)

  writeFileSync(file, `${settings}limitz: {}\n`)
  process.kill(program.pid, 'SIGHUP')
  await until(() => program.output().includes('settings not reloaded'), 'the refusal')
  expect(program.output()).toContain('did you mean limits?')
  expect((await fetch(`${admin}/healthz`)).status).toBe(200)

  writeFileSync(file, settings)
  process.kill(program.pid, 'SIGHUP')
  await until(() => program.output().includes('settings reloaded'), 'the reload')

  process.kill(program.pid, 'SIGTERM')
  expect(await program.ended).toBe(0)
})

test.skipIf(!existsSync('/proc/self/cmdline'))(
  'a proxy runs in a VM that was started for one: alone, beside other roles, and as several workers',
  async () => {
    const bounded = (pid: number | string) =>
      PROXY_FLAGS.every(flag => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(flag))
    const look = async (text: string, ...roles: string[]) => {
      writeFileSync(file, text)
      const program = await serve(...roles)
      await urlsOf(program)
      const children = readFileSync(`/proc/${program.pid}/task/${program.pid}/children`, 'utf8').split(' ')
      const seen = { itself: bounded(program.pid), children: children.filter(Boolean).map(bounded).sort() }
      process.kill(program.pid, 'SIGTERM')
      expect(await program.ended).toBe(0)
      return seen
    }
    expect(await look(settings, '--role', 'proxy')).toEqual({ itself: true, children: [] })
    expect(await look(settings, '--role', 'admin', '--role', 'proxy')).toEqual({
      itself: false,
      children: [false, true],
    })
    expect(await look(`${settings}workers: 2\n`, '--role', 'proxy')).toEqual({ itself: false, children: [true, true] })
  },
)

test('several roles are processes of their own behind one ready line', async () => {
  writeFileSync(file, settings)
  const program = await serve('--role', 'admin', '--role', 'proxy')
  const urls = await urlsOf(program)
  expect(Object.keys(urls).sort()).toEqual(['admin', 'http', 'local'])
  expect((await fetch(`${urls.http}/local/none.git/info/refs?service=git-upload-pack`)).status).toBe(401)
  process.kill(program.pid, 'SIGTERM')
  expect(await program.ended).toBe(0)
})

test('with PostgreSQL away a role says so and ends with a status that is worth another try', async () => {
  writeFileSync(file, settings.replace(/postgres: .*/, 'postgres: postgres://drawbridge@127.0.0.1:1/drawbridge'))
  const program = await serve('--role', 'proxy')
  expect(await program.ended).toBe(1)
  expect(program.output()).toContain('the role proxy could not start')
})
