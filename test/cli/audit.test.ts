import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { main, type Role } from '../../admin/main.ts'
import { createEmitter } from '../../audit/emit.ts'
import type { Receipt } from '../../audit/receipt.ts'
import { main as drawbridge } from '../../cli/drawbridge.ts'
import { migrate } from '../../deploy/migrate.ts'
import { quiet, start } from '../audit/records.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { plainSettings } from '../support/settings.ts'

// What auditors are given, and how they check it with nothing but the public key.

let redis: Redis
let database: Postgres
let role: Role
let folder: string
let receiver: Server
let forwarded = ''

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  await migrate(sql, fileURLToPath(new URL('../../deploy/migrations', import.meta.url)))
  await sql.end()
  folder = temporaryFolder('audit')
  const listen = { admin: { host: '127.0.0.1', port: 0 } }
  receiver = createServer(async (request, response) => {
    for await (const chunk of request) forwarded += chunk
    response.writeHead(204).end()
  })
  await new Promise<void>(resolve => receiver.listen(0, '127.0.0.1', resolve))
  const url = new URL(`http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`)
  const secret = `whsec_${Buffer.alloc(24).toString('base64')}`
  const ledger = {
    whenAway: 'refuse',
    spoolBytes: 0,
    forward: [{ name: 'siem', type: 'webhook', url, secret }],
  } as const
  const settings = plainSettings({ redis: redis.url, postgres: database.url, state: folder, listen, ledger })
  role = await main(settings, { log: pino({ level: 'silent' }) })
  await role.ready
})

afterAll(async () => {
  await role?.close()
  receiver?.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

interface Run {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

async function run(...args: string[]): Promise<Run> {
  const said = { stdout: '', stderr: '' }
  const before = { stdout: process.stdout.write, stderr: process.stderr.write, env: process.env }
  for (const stream of ['stdout', 'stderr'] as const) {
    process[stream].write = (chunk: string | Uint8Array) => {
      said[stream] += Buffer.from(chunk as string).toString()
      return true
    }
  }
  process.env = { PATH: before.env.PATH ?? '', DRAWBRIDGE_URL: role.urls.local ?? '' }
  try {
    return { status: await drawbridge(args), ...said }
  } finally {
    process.stdout.write = before.stdout
    process.stderr.write = before.stderr
    process.env = before.env
  }
}

const grant = () =>
  run(
    ...['grant', 'issue', '--principal', 'alice', '--repository', 'acme/api', '--action', 'fetch'],
    ...['--for', '2h', '--reason', 'PAY-231'],
  )
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const key = () => join(folder, 'ledger', 'ledger-head.key.pub')
const heads = () => join(folder, 'ledger', 'ledger-heads.jsonl')

test('a receipt is waited for, and then holds offline; changed by a word it does not', async () => {
  await grant()
  await until(async () => (await run('audit', 'list', '--kind', 'grant.issued')).stdout !== '')
  const seq = (await run('audit', 'list', '--kind', 'grant.issued')).stdout.split(' ')[0]!
  const asked = await run('audit', 'receipt', seq)
  expect(asked).toMatchObject({ status: 0 })
  const { stdout } = asked
  const receipt = file('receipt.json', stdout)
  const good = await run('audit', 'verify', '--receipt', receipt, '--key', key(), '--heads', heads())
  expect(good).toMatchObject({ status: 0, stdout: '' })
  expect(good.stderr).toContain(`record ${seq} (grant.issued)`)

  const changed = file('changed.json', stdout.replace('PAY-231', 'PAY-232'))
  const bad = await run('audit', 'verify', '--receipt', changed, '--key', key())
  expect(bad).toMatchObject({ status: 1 })
  expect(bad.stderr).toContain('was changed')
  expect(await run('audit', 'verify', '--receipt', receipt)).toMatchObject({ status: 2 })
  expect((await run('audit', 'receipt', 'op-0')).stderr).toContain('there is no record')

  const { head } = JSON.parse(stdout) as Receipt
  const consistent = await run('audit', 'consistency', String(head.seq), String(head.seq))
  const proof = file('consistency.json', consistent.stdout)
  expect(await run('audit', 'verify', '--receipt', proof, '--key', key())).toMatchObject({ status: 0 })
})

test('an export is checked against heads kept elsewhere, and asks nobody', async () => {
  const exported = join(folder, 'ledger.jsonl')
  expect(await run('audit', 'export', '-o', exported)).toMatchObject({ status: 0 })
  const args = ['audit', 'verify', '--export', exported, '--key', key(), '--heads', heads(), '--url', 'unix:/nowhere']
  const good = await run(...args)
  expect(good).toMatchObject({ status: 0 })
  expect(good.stderr).toContain('records are whole')
  const lines = readFileSync(exported, 'utf8').split('\n')
  file('ledger.jsonl', [lines[0], ...lines.slice(2)].join('\n'))
  const bad = await run(...args)
  expect(bad).toMatchObject({ status: 1 })
  expect(bad.stderr).toContain('record 2: missing')
})

test('the report comes as Markdown, as a file of HTML and as JSON, for a time', async () => {
  await grant()
  await until(async () => (await run('audit', 'list', '--kind', 'grant.issued')).stdout !== '')
  const words = (await run('audit', 'report')).stdout
  expect(words).toContain('## Who had access to what, and who used it')
  expect(words).toContain('| alice | acme/api |')
  const page = join(folder, 'report.html')
  expect(await run('audit', 'report', '--format', 'html', '-o', page)).toMatchObject({ status: 0, stdout: '' })
  expect(readFileSync(page, 'utf8')).toContain('<td>alice</td>')
  const before = await run('audit', 'report', '--until', '2020-01-31T00:00:00Z', '--format', 'json')
  expect(JSON.parse(before.stdout)).toMatchObject({ until: '2020-01-31T00:00:00.000Z' })
  expect(await run('audit', 'report', '--since', 'yesterday')).toMatchObject({ status: 2 })
})

test('without ledger.retention nothing is taken out, and that is said', async () => {
  const { status, stderr } = await run('audit', 'retain', '--dry-run')
  expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining('records stay') })
})

test('what is recorded is sent on to where the settings say', async () => {
  await grant()
  await until(() => forwarded.includes('dev.drawbridge.grant.issued'), 'the record')
})

test('a policy is replayed over what the gate recorded', async () => {
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  const proxy = await createEmitter({ sql, proxy: 'edge', boot: 'b-1', log: quiet })
  await proxy.emit(start('op-replayed'))
  await proxy.close()
  await sql.end()
  await until(async () => (await run('audit', 'list', '--operation', 'op-replayed')).stdout !== '')
  const text = 'version: 1\nrequests: [{ trigger: clone, approvers: leads }]\n'
  const args = ['policy', 'replay', file('policy.yaml', text), '--since']
  const ran = await run(...args, '1h')
  expect(ran).toMatchObject({ status: 0, stderr: 'drawbridge: 1 of 1 operations would change\n' })
  expect(ran.stdout).toMatch(
    /^op-replayed alice create acme\/app refs\/heads\/main: allowed → no rule lets alice ask for/,
  )
  expect(await run(...args, '1h', '--until', '30m')).toMatchObject({ status: 0, stdout: '' })
  expect(await run(...args, 'yesterday')).toMatchObject({ status: 2 })
})
