import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Record as AuditRecord } from '../../audit/record.ts'
import { git, makeRepository } from '../support/git.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// SIGHUP, told by a proxy in a process of its own that reads its settings from a file.

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname

let stand: Stand
let program: Program
let urls: Record<string, string>
const folder = temporaryFolder('reload')
const file = join(folder, 'drawbridge.yaml')

const write = (upstreams: readonly string[], more = '', name = 'hup') =>
  writeFileSync(
    file,
    `
name: ${name}
listen: { http: "127.0.0.1:0", ssh: off, admin: "127.0.0.1:0" }
redis: ${stand.redis.url}
postgres: ${stand.postgres.url}
state: state
upstreams: { ${upstreams.map(each => `${each}: { url: "file://${stand.folder}/" }`).join(', ')} }
${more}
`,
  )

/** Sends SIGHUP and waits for what the proxy then says. */
async function hangup(said: string): Promise<void> {
  const before = program.output().length
  process.kill(program.pid, 'SIGHUP')
  await until(() => program.output().slice(before).includes(said), `"${said}" in ${program.output()}`)
}

async function list(upstream: string) {
  const { url } = await stand.remote('http', `${upstream}/acme/app`, { urls })
  return await git(['ls-remote', url])
}

async function recorded(kind: AuditRecord['kind']): Promise<AuditRecord> {
  return await until(async () => (await stand.records()).findLast(record => record.kind === kind), `a ${kind}`)
}

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  await makeRepository(join(stand.folder, 'acme/app.git'))
  for (const upstream of ['first', 'second']) await stand.grant({ repository: `${upstream}/acme/app` })
  write(['first'])
  program = await startProgram(process.execPath, [SERVE, '--role', 'proxy', '--config', file], { deathSignal: 'TERM' })
  const line = await until(() => program.output().match(/^\{"kind":"ready".*$/m)?.[0], 'the proxy to be ready')
  urls = JSON.parse(line).urls
}, 60_000)

afterAll(async () => {
  await program?.stop()
  await stand?.close()
})

test('an upstream that is added is there after SIGHUP, and the record says so', async () => {
  expect((await list('first')).status).toBe(0)
  expect((await list('second')).status).not.toBe(0)

  write(['first', 'second'])
  await hangup('settings reloaded')
  expect((await list('second')).status).toBe(0)
  expect(await recorded('config.loaded')).toMatchObject({
    by: 'drawbridge',
    version: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
})

test('a file with a mistake changes nothing, and the record names the mistake', async () => {
  write(['first'], 'limitz: {}')
  await hangup('settings not reloaded')
  expect((await list('second')).status).toBe(0)
  expect(await recorded('config.refused')).toMatchObject({ reason: expect.stringContaining('did you mean limits?') })
})

test('what cannot change while it runs is named, and nothing else in that file is taken over either', async () => {
  write(['first'], 'limits: { channels: 3 }', 'another')
  await hangup('settings not reloaded: name, limits.channels cannot change while the gate runs')
  expect((await list('second')).status).toBe(0)
  const said = await until(async () => {
    const record = await recorded('config.refused')
    return 'reason' in record && record.reason?.includes('limits.channels') ? record.reason : undefined
  })
  expect(said).toContain('nothing was changed')
})

test('a name that can be no repository is on record under the operation the client was told', async () => {
  const answer = await fetch(`${urls.http}/first.git/info/refs?service=git-upload-pack`, {
    headers: { authorization: `Bearer ${await stand.token('alice')}`, 'git-protocol': 'version=2' },
  })
  const told = await answer.text()
  const record = await until(
    async () =>
      (await stand.records()).find(each => each.kind === 'operation.refused' && told.includes(each.operation)),
    `the record of: ${told}`,
  )
  expect(record).toMatchObject({ code: 'no-grant', reason: expect.stringContaining("not a repository's name") })
})
