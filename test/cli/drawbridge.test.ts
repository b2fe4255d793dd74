import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { main, type Role } from '../../admin/main.ts'
import { events } from '../../audit/follow.ts'
import { sentence } from '../../audit/sentence.ts'
import { main as drawbridge } from '../../cli/drawbridge.ts'
import { plain } from '../../cli/say.ts'
import { migrate } from '../../deploy/migrate.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { plainSettings } from '../support/settings.ts'

const PROGRAM = fileURLToPath(new URL('../../cli/drawbridge.ts', import.meta.url))

let redis: Redis
let database: Postgres
let role: Role
let folder: string
let local: string
let admin: string
const files: Record<string, string> = {}

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  await migrate(sql, fileURLToPath(new URL('../../deploy/migrations', import.meta.url)))
  await sql.end()
  folder = temporaryFolder('cli')
  const settings = plainSettings({
    redis: redis.url,
    postgres: database.url,
    state: folder,
    listen: { admin: { host: '127.0.0.1', port: 0 } },
  })
  role = await main(settings, { log: pino({ level: 'silent' }) })
  await role.ready
  local = role.urls.local ?? ''
  admin = role.urls.admin ?? ''
  for (const [principal, roles] of [
    ['root', 'admin'],
    ['alice', 'developer'],
    ['carol', 'auditor,approver'],
  ] as const) {
    const made = await run(['token', 'create', '--url', local, '--principal', principal, '--role', roles])
    files[principal] = join(folder, principal)
    writeFileSync(files[principal], made.stdout, { mode: 0o600 })
  }
})

afterAll(async () => {
  await role?.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

interface Run {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const plainEnv = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DRAWBRIDGE_')))
  return spawn(process.execPath, [PROGRAM, ...args], { env: { ...plainEnv, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
}

/** The command in this process: many start faster than many processes. What stands at the end of a process is tried below. */
async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  const said = { stdout: '', stderr: '' }
  const before = { stdout: process.stdout.write, stderr: process.stderr.write, env: process.env }
  for (const stream of ['stdout', 'stderr'] as const) {
    process[stream].write = (chunk: string | Uint8Array) => {
      said[stream] += Buffer.from(chunk as string).toString()
      return true
    }
  }
  process.env = {
    ...Object.fromEntries(Object.entries(before.env).filter(([name]) => !name.startsWith('DRAWBRIDGE_'))),
    ...env,
  }
  try {
    const status = await drawbridge(args)
    return { status, ...said }
  } finally {
    process.stdout.write = before.stdout
    process.stderr.write = before.stderr
    process.env = before.env
  }
}

const as = (principal: string, ...args: string[]) =>
  run(args, { DRAWBRIDGE_URL: admin, DRAWBRIDGE_TOKEN_FILE: files[principal] ?? '' })

const issue = (...more: string[]) =>
  as(
    'root',
    'grant',
    'issue',
    '--principal',
    'alice',
    '--repository',
    'acme/*',
    '--action',
    'fetch,update',
    '--for',
    '2 hours',
    '--reason',
    'PAY-231',
    ...more,
  )

test('the program ends with the status, data on stdout and words on stderr', async () => {
  const child = start(['grant', 'show', 'g-0'], { DRAWBRIDGE_URL: admin, DRAWBRIDGE_TOKEN_FILE: files.alice })
  const said = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) child[stream]?.on('data', chunk => (said[stream] += chunk))
  expect(await new Promise(resolve => child.once('close', resolve))).toBe(1)
  expect(said).toEqual({ stdout: '', stderr: 'drawbridge: there is no grant g-0\n' })
})

describe('grants', () => {
  test('are issued with the id alone on stdout, listed, shown, extended and revoked', async () => {
    const issued = await issue('--ref', 'release/*', '--idle', '30m')
    expect(issued).toMatchObject({ status: 0, stdout: expect.stringMatching(/^g-[0-9a-z]{20}\n$/) })
    expect(issued.stderr).toMatch(/^drawbridge: alice may fetch, update on acme\/\* until /)
    const id = issued.stdout.trim()

    const listed = await as('alice', 'grant', 'list')
    const [headings = '', ...rows] = listed.stdout.trimEnd().split('\n')
    expect(headings).toMatch(/^ID +PRINCIPAL +REPOSITORY +ACTIONS +REFS +STATE +UNTIL +REASON$/)
    const row = rows.find(line => line.startsWith(id)) ?? ''
    expect(row.indexOf('acme/*')).toBe(headings.indexOf('REPOSITORY'))
    expect(JSON.parse((await as('alice', 'grant', 'show', id, '--json')).stdout)).toMatchObject({
      id,
      state: 'live',
      idle: '30m',
    })
    expect((await as('alice', 'grant', 'show', id)).stdout).toMatch(/refs +release\/\*/)

    expect(await as('root', 'grant', 'extend', id, '--for', '1h30m', '--reason', 'longer')).toMatchObject({ status: 0 })
    expect(await as('carol', 'grant', 'revoke', id, '--reason', 'enough')).toMatchObject({
      status: 0,
      stderr: `drawbridge: ${id} of alice is over\n`,
    })
    const again = await as('carol', 'grant', 'revoke', id)
    expect(again).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/is over: revoked by carol/) })
    expect((await as('alice', 'grant', 'list', '--json')).stdout).not.toContain(id)
    expect((await as('alice', 'grant', 'list', '--all', '--json')).stdout).toContain(id)
  })

  test('are released by whose they are', async () => {
    const id = (await issue()).stdout.trim()
    expect(await as('alice', 'grant', 'release', id)).toMatchObject({ status: 0 })
  })
})

describe('what is wrong is said with what to do, and a status for programs', () => {
  test.each([
    [['grant', 'issue'], 2, /^drawbridge: required option '--principal <principal>' not specified\n$/],
    [['gront'], 2, /^drawbridge: unknown command 'gront'\ndrawbridge: \(Did you mean grant\?\)\n$/],
    [['audit', 'list', '--limit', 'many'], 2, /Not a whole number/],
    [['grant', 'list', '--limit', '0'], 2, /limit: /],
    [['grant', 'show', 'g-0'], 1, /^drawbridge: there is no grant g-0\n$/],
    [['grant', 'show', '../tokens'], 2, /^drawbridge: id: is no id/],
    [['key', 'add', '/nowhere.pub'], 2, /^drawbridge: file: cannot read \/nowhere.pub: ENOENT\n$/],
    [['lock', 'alice', '--reason', 'x'], 4, /this needs the role approver or admin; your token has developer\n$/],
    [['whoami', '--url', 'ftp://x'], 2, /--url: expected https/],
    [['whoami', '--url', 'http://example.org'], 2, /http would show it the token\ndrawbridge: hint: use https\n$/],
    [['whoami', '--url', 'http://127.0.0.1:1'], 3, /^drawbridge: cannot reach http:\/\/127.0.0.1:1: ECONNREFUSED\n/],
    [['whoami', '--url', 'unix:/nowhere.sock'], 3, /ENOENT/],
    [['whoami', '--token-file', '/nowhere'], 2, /--token-file: cannot read/],
  ])('%j', async (args, status, said) => {
    const result = await as('alice', ...args)
    expect(result.stderr).toMatch(said)
    expect(result).toMatchObject({ status, stdout: '' })
  })

  test('without a gate or a token', async () => {
    expect(await run(['whoami'])).toMatchObject({ status: 2, stderr: expect.stringContaining('set DRAWBRIDGE_URL') })
    expect(await run(['whoami'], { DRAWBRIDGE_URL: admin })).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('no token'),
    })
    expect(await run(['whoami'], { DRAWBRIDGE_URL: admin, DRAWBRIDGE_TOKEN: 'x' })).toMatchObject({ status: 4 })
    expect(await run(['whoami'], { DRAWBRIDGE_URL: admin, DRAWBRIDGE_TOKEN: 'x\r\ny: z' })).toMatchObject({ status: 2 })
  })

  test('by something that is no gate', async () => {
    const [other, url] = await serving((_, answer) => answer.writeHead(200).end('<html>'))
    expect(await run(['whoami'], { DRAWBRIDGE_URL: url, DRAWBRIDGE_TOKEN: 'x' })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('does not answer as a gate does'),
    })
    other.close()
  })
})

describe('people', () => {
  test('are locked out and let in again', async () => {
    expect(await as('carol', 'lock', 'mallory', '--reason', 'laptop stolen')).toMatchObject({ status: 0 })
    expect((await as('carol', 'locks')).stdout).toMatch(/mallory +\S+ \S+ +carol +laptop stolen/)
    expect(await as('root', 'unlock', 'mallory')).toMatchObject({ status: 0 })
    expect((await as('carol', 'locks')).stdout).toBe('')
    expect(await as('root', 'unlock', 'mallory')).toMatchObject({
      status: 1,
      stderr: 'drawbridge: mallory is not locked\n',
    })
  })

  test('have tokens that are printed once and revoked at once', async () => {
    const made = await as(
      'root',
      'token',
      'create',
      '--principal',
      'dave',
      '--role',
      'developer',
      '--role',
      'auditor',
      '--for',
      '1h',
    )
    expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+\n$/) })
    const env = { DRAWBRIDGE_URL: admin, DRAWBRIDGE_TOKEN: made.stdout }
    expect((await run(['whoami'], env)).stdout).toMatch(/dave +developer,auditor/)
    const id = /t-\w+/.exec(made.stderr)?.[0] ?? ''
    expect((await as('root', 'token', 'list', '--principal', 'dave')).stdout).toContain(id)
    expect(await as('root', 'token', 'revoke', id)).toMatchObject({ status: 0 })
    expect(await run(['whoami'], env)).toMatchObject({ status: 4, stderr: 'drawbridge: the token was revoked\n' })
  })

  test('register keys', async () => {
    const file = join(folder, 'id')
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'laptop', '-f', file])
    const added = await as('alice', 'key', 'add', `${file}.pub`, '--for', '30 days')
    expect(added).toMatchObject({ status: 0, stdout: expect.stringMatching(/^SHA256:\S{43}\n$/) })
    expect((await as('alice', 'key', 'list')).stdout).toMatch(/alice +ssh-ed25519 +laptop/)
    expect(await as('alice', 'key', 'revoke', added.stdout.trim())).toMatchObject({ status: 0 })
  })
})

describe('the ledger', () => {
  test('is listed and exported, as JSON for programs', async () => {
    const id = (await issue()).stdout.trim()
    await until(async () => (await as('carol', 'audit', 'list', '--grant', id)).stdout !== '')
    const line = (await as('carol', 'audit', 'list', '--grant', id)).stdout
    expect(line).toMatch(new RegExp(`^\\d+ \\S+ \\S+ grant.issued root for alice acme/\\* ${id}: PAY-231\n$`))
    const [record] = (await as('carol', 'audit', 'list', '--grant', id, '--json')).stdout.trim().split('\n')
    expect(JSON.parse(record ?? '')).toMatchObject({ record: { kind: 'grant.issued', grant: id } })
    const file = join(folder, 'ledger.csv')
    expect(await as('carol', 'audit', 'export', '--format', 'csv', '-o', file)).toMatchObject({ status: 0, stdout: '' })
    expect(readFileSync(file, 'utf8')).toContain(id)
    expect((await as('carol', 'audit', 'export')).stdout.split('\n')[0]).toContain('"seq":1')
  })

  test('is verified, against heads kept elsewhere too', async () => {
    const verdict = await as('carol', 'audit', 'verify')
    expect(verdict).toMatchObject({ status: 0, stderr: expect.stringMatching(/records are whole/) })
    const heads = join(folder, 'heads.jsonl')
    const kept = {
      seq: 1,
      hash: '0'.repeat(64),
      root: '0'.repeat(64),
      time: '2026-01-01T00:00:00.000Z',
      key: 'SHA256:x',
      signature: 'AA==',
    }
    writeFileSync(heads, JSON.stringify(kept))
    expect(await as('carol', 'audit', 'verify', '--heads', heads)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/not a trusted key/),
    })
    writeFileSync(heads, 'nonsense')
    expect(await as('carol', 'audit', 'verify', '--heads', heads)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/--heads: .*, line 1: .*not valid JSON/),
    })
  })

  test('is followed as it grows', async () => {
    const tail = start(['audit', 'tail', '-f', '-n', '1', '--json'], {
      DRAWBRIDGE_URL: admin,
      DRAWBRIDGE_TOKEN_FILE: files.carol,
    })
    let out = ''
    tail.stdout?.on('data', chunk => (out += chunk))
    await until(() => out.includes('\n'))
    const ids = [(await issue()).stdout.trim(), (await issue()).stdout.trim()]
    await until(() => ids.every(id => out.includes(id)))
    tail.kill()
    const sequences = out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line).seq as number)
    expect(sequences).toEqual(sequences.map((_, i) => (sequences[0] ?? 0) + i))
  })

  test('is followed across breaks without gap or repeat', async () => {
    // A gate that breaks off in the middle of an event.
    const asked: (string | undefined)[] = []
    const event = (seq: number) => `id: ${seq}\nevent: x\ndata: {"seq":${seq},"recorded":"","record":{"kind":"x"}}\n\n`
    const [other, url] = await serving((request, answer) => {
      if (!request.url?.includes('stream'))
        return void answer.writeHead(200).end('{"records":[{"seq":1,"recorded":"","record":{"kind":"x"}}]}')
      const from = Number(request.headers['last-event-id'])
      asked.push(String(from))
      answer.writeHead(200, { 'content-type': 'text/event-stream' })
      answer.write(`retry: 1\n\n: still here\n\n${event(from + 1)}${event(from + 2)}${event(from + 3).slice(0, 20)}`)
      setTimeout(() => answer.destroy(), 50)
    })
    const tail = start(['audit', 'tail', '-f', '-n', '0', '--json'], { DRAWBRIDGE_URL: url, DRAWBRIDGE_TOKEN: 'x' })
    let out = ''
    tail.stdout?.on('data', chunk => (out += chunk))
    await until(() => out.split('\n').length > 6)
    tail.kill()
    other.close()
    expect(asked.slice(0, 3)).toEqual(['1', '3', '5'])
    expect(
      out
        .trim()
        .split('\n')
        .slice(0, 6)
        .map(line => JSON.parse(line).seq),
    ).toEqual([2, 3, 4, 5, 6, 7])
  })

  test('names the request an operation runs under and who approved it, as far as that is known, and stays one line', () => {
    const told = (record: object) => sentence({ seq: 7, recorded: 'x', record: { kind: 'k', ...record } })
    const under = (approvers?: string[]) => [
      { grant: 'g-1', request: 'r-1', policy: 'p', ...(approvers && { approvers }) },
    ]
    expect(told({ under: under(['mona', 'raj']) })).toBe('7 x k under g-1 (r-1, approved by mona, raj)')
    expect(told({ under: under([]), reason: 'x' })).toBe('7 x k under g-1 (r-1, approved by the policy itself): x')
    expect(told({ under: under() })).toBe('7 x k under g-1 (r-1)')
    const many = Array.from({ length: 9 }, (_, i) => `p${i}`)
    expect(told({ grant: 'g-1', approvers: many })).toBe('7 x k g-1 approved by p0, p1, p2, p3, p4 and 4 more')
    expect(told({ under: many.flatMap(() => under([])) })).toMatch(/ and 4 more$/)
  })

  test('cannot draw on the terminal of whoever reads it', () => {
    const nasty = '\u001b[2J\r\nfake \u202egnp\u0000'
    const line = sentence({ seq: 1, recorded: 'x', record: { kind: 'k', principal: nasty, reason: nasty } })
    expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    const under = { grant: nasty, request: nasty, approvers: [nasty] }
    const more = sentence({ seq: 1, recorded: 'x', record: { kind: 'k', under: [under, null], approvers: [nasty] } })
    expect(more).toContain('fake')
    expect(more).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    expect(plain('caf\u00e9 \u4e2d')).toBe('caf\u00e9 \u4e2d')
  })
})

test('events are the same however they arrive', async () => {
  const text =
    'retry: 5\n\nid: 1\nevent: a\ndata: {"x":"\u00e9"}\n\n: hello\n\nid: 2\ndata: b\ndata: c\n\nid: 3\ndata: cut'
  const bytes = Buffer.from(text)
  const expected = [
    { id: '1', name: 'a', data: '{"x":"\u00e9"}' },
    { id: '2', name: 'message', data: 'b\nc' },
  ]
  for (let at = 0; at <= bytes.length; at++) {
    async function* halves() {
      yield bytes.subarray(0, at)
      yield bytes.subarray(at)
    }
    const read = []
    for await (const event of events(halves())) read.push(event)
    expect(read).toEqual(expected)
  }
})

test('a token file that others can read is mentioned', async () => {
  const file = join(folder, 'open')
  writeFileSync(file, readFileSync(files.alice ?? ''))
  chmodSync(file, 0o644)
  const result = await run(['whoami', '--token-file', file, '--url', admin])
  expect(result).toMatchObject({ status: 0, stderr: expect.stringContaining('chmod 600') })
})

test.each(['bash', 'zsh', 'fish'])('completion for %s knows the commands', async shell => {
  const { stdout } = await run(['completion', shell])
  expect(stdout).toContain('issue')
  if (shell === 'bash') {
    const asked = `${stdout}\nCOMP_WORDS=(drawbridge grant re); COMP_CWORD=2; _drawbridge; echo "\${COMPREPLY[*]}"`
    expect(execFileSync('bash', ['-c', asked], { encoding: 'utf8' }).trim()).toBe('revoke release')
  }
})

function serving(handler: Parameters<typeof createServer>[1]): Promise<[Server, string]> {
  return new Promise(resolve => {
    const server = createServer(handler as never)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve([server, `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`])
    })
  })
}
