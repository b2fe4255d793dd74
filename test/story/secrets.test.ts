import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cloneRepository, commitFile, git, makeRepository } from '../support/git.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { sshCommand } from '../support/sshd.ts'
import { type Stand, startStand, UPSTREAM_SECRET } from '../support/stand.ts'

// Secrets are planted wherever the gate is given one, and looked for wherever it says something.

const SERVE = new URL('../../cli/serve.ts', import.meta.url).pathname
const PLANTED = {
  bearer: 'planted-bearer-5d6a"quoted',
  basic: 'planted-basic-77f1/+ ü',
  redis: 'planted-redis-a01c',
  postgres: 'planted-postgres-3e2b',
  traces: 'planted-traces-c4d9',
}

let stand: Stand
let parrot: Server
let receiver: OtlpReceiver
let program: Program
let urls: Record<string, string>
let work: string
let said = ''
const folder = temporaryFolder('secrets')
/** The head of every unencrypted OpenSSH key, and its frame. */
const COMMON = /^(?:-----|b3BlbnNzaC1rZXktdjEA)/
/** What clients were shown. */
const shown: string[] = []
const tokens: string[] = []

/** A host that says back what it was sent, in each way an answer has. */
function parroting(request: IncomingMessage, response: ServerResponse): void {
  const sent = String(request.headers.authorization)
  const credential = sent.replace(/^Bearer /, '')
  const pair = Buffer.from(sent.replace(/^Basic /, ''), 'base64').toString()
  const [, manner] = request.url!.split('/')
  const spoken = `${sent} ${credential} ${pair}`.replace(/[^\x20-\x7e]/g, '?')
  const headers = {
    'www-authenticate': `Basic realm="${spoken}"`,
    'set-cookie': `session=${encodeURIComponent(credential)}`,
    'x-request': spoken,
  }
  switch (manner) {
    case 'refusing':
      response.writeHead(401, spoken, headers).end(spoken)
      return
    case 'moving':
      response
        .writeHead(302, { location: `http://${encodeURIComponent(pair)}@elsewhere.example/?t=${credential}` })
        .end()
      return
    case 'failing':
      response.writeHead(500, spoken, headers).end(spoken)
      return
    case 'typing':
      response.writeHead(200, { ...headers, 'content-type': `text/${spoken}` }).end(spoken)
      return
    case 'encoding':
      response
        .writeHead(200, {
          'content-type': 'application/x-git-upload-pack-advertisement',
          'content-encoding': spoken,
          'content-length': '0',
        })
        .end()
      return
    default:
      response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-advertisement' }).end(spoken)
  }
}
const MANNERS = ['refusing', 'moving', 'failing', 'typing', 'encoding', 'babbling']

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  work = await cloneRepository(await makeRepository(join(stand.folder, 'acme', 'app.git')))
  parrot = createServer(parroting)
  receiver = await startOtlpReceiver()
  await new Promise<void>(resolve => parrot.listen(0, '127.0.0.1', resolve))
  const at = `http://127.0.0.1:${(parrot.address() as AddressInfo).port}/`
  const { upstreams } = stand.settings
  const ssh = upstreams.get('ssh1')!
  writeFileSync(join(folder, 'ssh-key'), ssh.credential.type === 'ssh-key' ? ssh.credential.privateKey : '')
  writeFileSync(join(folder, 'basic'), PLANTED.basic)
  const withPassword = (url: string, user: string, password: string) => {
    const full = new URL(url)
    full.username = user
    full.password = password
    return full.href
  }
  const file = join(folder, 'drawbridge.yaml')
  writeFileSync(
    file,
    `
name: secretive
listen: { http: "127.0.0.1:0", ssh: "127.0.0.1:0", admin: "127.0.0.1:0" }
redis: ${withPassword(stand.redis.url, '', PLANTED.redis)}
postgres: ${withPassword(stand.postgres.url, 'drawbridge', PLANTED.postgres)}
state: state
upstreams:
  web: { url: "${stand.nginx.url}", credential: { type: basic, username: bot, password: "\${WEB}" } }
  ssh1: { url: "${ssh.url}", host_keys: ["${ssh.hostKeys[0]}"], credential: { type: ssh-key, username: ${stand.sshd.user}, private_key: { file: ssh-key } } }
  sesame: { url: "${at}", credential: { type: bearer, token: "\${BEARER}" } }
  basic: { url: "${at}", credential: { type: basic, username: bot, password: { file: basic } } }
  nowhere: { url: "http://127.0.0.1:1/", credential: { type: bearer, token: "\${BEARER}" } }
telemetry: { traces: { url: "${receiver.url}", headers: { x-tenant: "\${TRACES}" } } }
`,
  )
  program = await startProgram(process.execPath, [SERVE, '--role', 'proxy', '--config', file], {
    deathSignal: 'TERM',
    env: {
      ...process.env,
      DRAWBRIDGE_LOG: 'trace',
      WEB: UPSTREAM_SECRET,
      BEARER: PLANTED.bearer,
      TRACES: PLANTED.traces,
    },
    onOutput: text => {
      said += text
    },
  })
  const ready = await until(() => {
    if (said.includes('could not start') || /^drawbridge: /m.test(said)) throw new Error(said)
    return said.match(/^\{"kind":"ready".*$/m)?.[0]
  }, 'the proxy to be ready')
  urls = JSON.parse(ready).urls
  await stand.grant({ repository: '**' })
}, 60_000)
afterAll(async () => {
  await program?.stop()
  parrot?.close()
  receiver?.close()
  await stand?.close()
})

async function token(): Promise<string> {
  const made = await stand.token('alice')
  tokens.push(made)
  return made
}

/** git at the gate; everything a person would see is kept. */
async function seen(args: readonly string[], env: { [name: string]: string } = {}): Promise<number> {
  const { status, stdout, stderr } = await git(args, { cwd: work, env })
  shown.push(stdout, stderr)
  return status
}

async function asked(path: string, init: RequestInit = {}): Promise<void> {
  const answer = await fetch(`${urls.http}${path}`, { redirect: 'manual', ...init })
  shown.push(answer.statusText, JSON.stringify([...answer.headers]), await answer.text())
}

const remote = (repository: string, password: string, user = 'alice') => {
  const url = new URL(`${urls.http}/${repository}.git`)
  url.username = user
  url.password = password
  return url.href
}

describe('what is done', () => {
  test('clones and pushes, over both transports and to hosts of two kinds', async () => {
    const ssh = { GIT_SSH_COMMAND: sshCommand({ key: stand.key.path }) }
    for (const upstream of ['web', 'ssh1']) {
      await commitFile(work)
      expect(await seen(['push', '-o', 'ci.skip', remote(`${upstream}/acme/app`, await token()), 'HEAD:main'])).toBe(0)
      expect(await seen(['ls-remote', `${urls.ssh}/${upstream}/acme/app.git`], ssh)).toBe(0)
    }
  })

  test.each(MANNERS)('a host is %s, and says back what it was sent', async manner => {
    for (const upstream of ['sesame', 'basic']) {
      expect(await seen(['ls-remote', remote(`${upstream}/${manner}/app`, await token())])).not.toBe(0)
      expect(await seen(['push', remote(`${upstream}/${manner}/app`, await token()), 'HEAD:main'])).not.toBe(0)
      await asked(`/${upstream}/${manner}/app.git/info/refs?service=git-upload-pack`, {
        headers: { authorization: `Bearer ${await token()}`, cookie: `t=${await token()}` },
      })
    }
  })

  test('a host is not there', async () => {
    expect(await seen(['ls-remote', remote('nowhere/acme/app', await token())])).not.toBe(0)
  })

  test('credentials are put where they do not belong', async () => {
    expect(await seen(['ls-remote', remote('web/acme/app', 'x', await token())])).not.toBe(0)
    const [head, body] = (await token()).split('.')
    const forged = `${head}.${body}.${Buffer.alloc(64, 7).toString('base64url')}`
    tokens.push(forged)
    expect(await seen(['ls-remote', remote('web/acme/app', forged)])).not.toBe(0)
    const whose = { authorization: `Bearer ${await token()}` }
    await asked(`/web/acme/app.git/info/refs?service=git-upload-pack&token=${await token()}`, { headers: whose })
    await asked(`/web/${await token()}.git/info/refs?service=git-upload-pack`, { headers: whose })
    await asked('/web/acme/app.git/info/refs?service=git-upload-pack', {
      headers: { ...whose, 'user-agent': `git/${await token()}` },
    })
    await asked('/metrics')
    await asked('/healthz')
  })

  // Whoever changes the password of Redis forgets a proxy now and then, and libraries tell what they sent in their errors.
  test('Redis and PostgreSQL go away, and Redis no longer takes the password', async () => {
    const redis = new Redis(stand.redis.url)
    await redis.config('SET', 'requirepass', 'changed')
    await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await until(() => said.includes('WRONGPASS'), 'the password to be refused')
    expect(await seen(['ls-remote', remote('web/acme/app', await token())])).not.toBe(0)
    await redis.config('SET', 'requirepass', '')
    redis.disconnect()
    await stand.postgres.stop()
    await until(async () => (await seen(['ls-remote', remote('web/acme/app', await token())])) !== 0, 'a refusal')
    await stand.postgres.restart()
    await until(async () => (await seen(['ls-remote', remote('web/acme/app', await token())])) === 0, 'it to be back')
  })
})

describe('what is found afterwards', () => {
  /** Every spelling in which a secret might be met. */
  const secrets = () => {
    const key = readFileSync(join(folder, 'ssh-key'), 'utf8')
      .split('\n')
      .filter(line => line.length > 30 && !COMMON.test(line))
    const passwords = [...Object.values(PLANTED), UPSTREAM_SECRET]
    const pairs = [PLANTED.basic, UPSTREAM_SECRET].map(password => Buffer.from(`bot:${password}`).toString('base64'))
    const all = [...passwords, ...pairs, ...key, ...tokens]
    return [...new Set(all.flatMap(each => [each, encodeURIComponent(each), JSON.stringify(each).slice(1, -1)]))]
  }
  const leaks = (text: string) => secrets().filter(secret => text.includes(secret))

  test('the story happened', () => {
    expect(tokens.length).toBeGreaterThan(30)
    expect(secrets().length).toBeGreaterThan(40)
    expect(said.split('\n').length).toBeGreaterThan(30)
    expect(leaks(`x ${PLANTED.bearer} y`)).toHaveLength(1)
  })

  test('none in the log', () => {
    expect(leaks(said)).toEqual([])
  })

  test('none in what clients were shown', () => {
    expect(leaks(shown.join('\n'))).toEqual([])
  })

  test('none in a trace, and a push is one with its steps, found by the id that its record bears', async () => {
    const landed = (await stand.records()).find(({ kind, ...end }) => {
      const { action, result } = end as { action?: string; result?: string }
      return kind === 'operation.end' && action === 'push' && result === 'ok'
    })
    const { operation } = landed as unknown as { operation: string }
    const root = await until(
      () => receiver.spans.find(({ attributes }) => attributes['drawbridge.operation'] === operation),
      'the trace',
    )
    const steps = receiver.spans.filter(({ parentSpanId }) => parentSpanId === root.spanId).map(({ name }) => name)
    expect(steps).toEqual(expect.arrayContaining(['gate', 'record', 'upstream', 'held tail']))
    expect(leaks(receiver.requests.map(({ body }) => body).join('\n'))).toEqual([])
    expect(receiver.requests[0]?.headers['x-tenant']).toBe(PLANTED.traces)
    const lines = said.split('\n').filter(line => line.includes(`"operation":"${operation}"`))
    expect(lines.map(line => JSON.parse(line).msg)).toEqual(['operation'])
  })

  test('none in a record, nor anywhere else in the database', async () => {
    const tables = await stand.sql<{ name: string }[]>`
      select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`
    const rows = await Promise.all(tables.map(({ name }) => stand.sql.unsafe(`select t::text as row from ${name} t`)))
    const text = rows
      .flat()
      .map(({ row }) => row.replaceAll('""', '"'))
      .join('\n')
    expect(text).toContain('operation.end')
    expect(leaks(text)).toEqual([])
  })

  test('none in Redis', async () => {
    const redis = new Redis(stand.redis.url)
    const found: string[] = []
    for (const key of await redis.keys('*')) {
      found.push(key, JSON.stringify(await contentOf(redis, key)))
    }
    redis.disconnect()
    expect(found.length).toBeGreaterThan(2)
    expect(leaks(found.join('\n'))).toEqual([])
  })

  test('none in the state folder', () => {
    const state = join(folder, 'state')
    const files = readdirSync(state, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
    expect(files.length).toBeGreaterThan(0)
    expect(
      leaks(files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1')).join('\n')),
    ).toEqual([])
  })

  test('none among the arguments of the process', () => {
    expect(leaks(readFileSync(`/proc/${program.pid}/cmdline`, 'utf8'))).toEqual([])
  })
})

async function contentOf(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key)
  if (type === 'string') return redis.get(key)
  if (type === 'hash') return redis.hgetall(key)
  if (type === 'set') return redis.smembers(key)
  if (type === 'zset') return redis.zrange(key, '0', '-1')
  return redis.lrange(key, 0, -1)
}
