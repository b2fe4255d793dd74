import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { UpstreamSettings } from '../config/settings.ts'
import { ssh2State } from '../proxy/ssh/patched.ts'
import { cloneRepository, git, gitOk, makeRepository } from '../test/support/git.ts'
import { makeKey } from '../test/support/keys.ts'
import { startNginx } from '../test/support/nginx.ts'
import { runProgram, temporaryFolder } from '../test/support/program.ts'
import setup from '../test/support/setup.ts'
import { sshCommand, startSshd } from '../test/support/sshd.ts'
import { cpuSeconds, residentBytes, startGate } from './gate.ts'
import { CLONE_REQUEST, load, median, percentile } from './load.ts'
import { revokeToLastByte } from './revoke.ts'
import { type Row, table } from './table.ts'

// The figures of the README: the same work through each way in turn, round after round, in one run on one machine.
//   npm run bench               1 GB, five rounds
//   npm run bench -- --quick    128 MB, three rounds, under three minutes
//   npm run bench -- --only replay,ls-remote

const quick = process.argv.includes('--quick')
const onlyAt = process.argv.indexOf('--only')
const only = onlyAt < 0 ? undefined : process.argv[onlyAt + 1]?.split(',')
const GIGABYTE = 1e9
const bytes = quick ? 128e6 : GIGABYTE
const rounds = quick ? 3 : 5
const seconds = quick ? 2 : 5

const say = (text: string) => process.stderr.write(`bench: ${text}\n`)
const wants = (name: string) => !only || only.includes(name)

// ---- the stands ----

const takeDown = await setup()
say('starting nginx, sshd, redis, postgres and two proxies')
const folder = temporaryFolder('bench')
const upstreamKey = await makeKey('upstream')
const hostFolder = join(folder, 'repositories')
mkdirSync(hostFolder)
const replay = await startReplay()
const backend = await startNginx({ folder: hostFolder })
// nginx as the thing in between: passes everything, checks nothing, buffers nothing.
const through = await startNginx({
  folder: join(folder, 'none'),
  config: [
    'keepalive_requests 100000000;',
    ...[
      ['/real/', backend.url],
      ['/replay/', replay.url],
    ].map(
      ([path, url]) =>
        `location ${path} { proxy_pass ${url}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s; }`,
    ),
  ],
})

// Our end of SSH and sshd agree on what both know; a post-quantum exchange on one leg only would not be a comparison.
const KEX = 'curve25519-sha256'
const CIPHER = 'aes128-gcm@openssh.com'
const clientKey = await makeKey('client')
const sshd = await startSshd({
  folder: hostFolder,
  authorizedKeys: [upstreamKey.publicKey, clientKey.publicKey],
  config: ['AcceptEnv GIT_PROTOCOL', 'MaxStartups 200', 'MaxSessions 100'],
})

const common = { connectTimeout: 5_000, idleTimeout: 60_000, connections: 128, hostKeys: [] as string[] }
const upstreams: UpstreamSettings[] = [
  { ...common, name: 'real', url: new URL(backend.url), credential: { type: 'none' } },
  { ...common, name: 'replay', url: new URL(replay.url), credential: { type: 'none' } },
  // The same host by a name of its own, so that a grant on it is the only one that covers what runs there.
  { ...common, name: 'slow', url: new URL(replay.url), credential: { type: 'none' } },
  {
    ...common,
    name: 'ssh1',
    url: new URL(`${sshd.url}${hostFolder}/`),
    credential: { type: 'ssh-key', username: sshd.user, privateKey: readFileSync(upstreamKey.path, 'utf8') },
    hostKeys: [sshd.hostKey.publicKey],
  },
]
const gate = await startGate(upstreams, 2)
const proxy = gate.proxies[0]!
const replayGrant = await gate.grant('replay/**')
await gate.grant('real/**')
await gate.grant('ssh1/**')

const bearer = `Authorization: Bearer ${gate.token}`
const gitHttp = { GIT_CONFIG_PARAMETERS: `'http.extraHeader=${bearer}'` }
const pinned = ['-o', `KexAlgorithms=${KEX}`, '-o', `Ciphers=${CIPHER}`]
const directSsh = { GIT_SSH_COMMAND: sshCommand({ key: clientKey.path, extra: pinned }) }
const gateSsh = { GIT_SSH_COMMAND: sshCommand({ key: gate.key.path, extra: pinned }) }

const rows: Row[] = []

// ---- the work ----

interface Way {
  readonly name: string
  readonly run: () => Promise<unknown>
  /** Whose CPU is counted. */
  readonly pid?: number
}

/** Each way in turn, `rounds` times after one that is not counted; medians of seconds and of CPU seconds. */
async function timed(ways: readonly Way[], times = rounds): Promise<Map<string, { seconds: number; cpu: number }>> {
  const taken = new Map(ways.map(way => [way.name, { seconds: [] as number[], cpu: [] as number[] }]))
  for (let round = 0; round <= times; round++) {
    for (const way of ways) {
      const cpu = way.pid ? cpuSeconds(way.pid) : 0
      const start = performance.now()
      await way.run()
      if (round === 0) continue
      taken.get(way.name)?.seconds.push((performance.now() - start) / 1000)
      taken.get(way.name)?.cpu.push(way.pid ? cpuSeconds(way.pid) - cpu : Number.NaN)
    }
    say(`  round ${round}/${times}`)
  }
  return new Map([...taken].map(([name, { seconds, cpu }]) => [name, { seconds: median(seconds), cpu: median(cpu) }]))
}

function compare(
  what: string,
  unit: string,
  result: Map<string, { seconds: number; cpu: number }>,
  size?: number,
): void {
  const direct = result.get('direct')?.seconds
  for (const [way, { seconds: value, cpu }] of result) {
    rows.push({
      what,
      way,
      value: `${value < 1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`}${unit}`,
      ...(direct !== undefined && way !== 'direct' && { ratio: value / direct }),
      ...(size !== undefined && Number.isFinite(cpu) && { cpuPerGigabyte: cpu / (size / GIGABYTE) }),
    })
  }
}

const scratch = () => join(temporaryFolder('bench-clone'), 'work')
const clone = async (url: string, env: { [name: string]: string }) => {
  const into = scratch()
  await gitOk(['clone', '-q', '--bare', url, into], { env, timeout: 600_000 })
  rmSync(into, { recursive: true, force: true })
}

if (wants('clone') || wants('push')) {
  say(`making a repository of ${bytes / 1e6} MB`)
  await makeRepository(join(hostFolder, 'big.git'), { bytes })
}

if (wants('clone')) {
  say('clone over HTTP')
  const result = await timed([
    { name: 'direct', run: () => clone(`${backend.url}big.git`, {}) },
    { name: 'nginx', run: () => clone(`${through.url}real/big.git`, {}) },
    { name: 'drawbridge', run: () => clone(`${proxy.http}/real/big.git`, gitHttp), pid: proxy.pid },
  ])
  compare('clone over HTTP', '', result, bytes)
  say(`clone over SSH (${KEX}, ${CIPHER})`)
  const over = await timed([
    { name: 'direct', run: () => clone(`${sshd.url}${hostFolder}/big.git`, directSsh) },
    { name: 'drawbridge', run: () => clone(`${proxy.ssh}/ssh1/big.git`, gateSsh), pid: proxy.pid },
  ])
  compare(`clone over SSH (${KEX})`, '', over, bytes)
}

if (wants('push')) {
  const work = await cloneRepository(join(hostFolder, 'big.git'))
  const push = (url: string, env: { [name: string]: string }) => async () => {
    const name = `refs/heads/push-${Math.random().toString(36).slice(2)}`
    await gitOk(['push', '-q', url, `HEAD:${name}`], { cwd: work, env, timeout: 600_000 })
  }
  const target = async () => {
    rmSync(join(hostFolder, 'sink.git'), { recursive: true, force: true })
    await makeRepository(join(hostFolder, 'sink.git'), { commits: 0 })
  }
  const fresh = (url: string, env: { [name: string]: string }) => async () => {
    await target()
    await push(url, env)()
  }
  say('push over HTTP')
  const result = await timed(
    [
      { name: 'direct', run: fresh(`${backend.url}sink.git`, {}) },
      { name: 'nginx', run: fresh(`${through.url}real/sink.git`, {}) },
      { name: 'drawbridge', run: fresh(`${proxy.http}/real/sink.git`, gitHttp), pid: proxy.pid },
    ],
    Math.max(2, rounds - 2),
  )
  compare('push over HTTP', '', result, bytes)
  say('push over SSH')
  const over = await timed(
    [
      { name: 'direct', run: fresh(`${sshd.url}${hostFolder}/sink.git`, directSsh) },
      { name: 'drawbridge', run: fresh(`${proxy.ssh}/ssh1/sink.git`, gateSsh), pid: proxy.pid },
    ],
    Math.max(2, rounds - 2),
  )
  compare(`push over SSH (${KEX})`, '', over, bytes)
}

if (wants('replay')) {
  const request = join(folder, 'request')
  writeFileSync(request, CLONE_REQUEST)
  for (const kilobytes of [64, 8]) {
    say(`replayed bytes, packets of ${kilobytes} KiB`)
    const name = `x/${bytes / 1e6}-${kilobytes}.git/git-upload-pack`
    const curl = (url: string, ...headers: string[]) =>
      runProgram('curl', [
        ...['-sS', '-f', '-o', '/dev/null', '-w', '%{size_download}', '-X', 'POST', '--data-binary', `@${request}`],
        ...['Content-Type: application/x-git-upload-pack-request', 'Git-Protocol: version=2', ...headers].flatMap(
          header => ['-H', header],
        ),
        url,
      ]).then(size => {
        if (Number(size) < bytes * 0.9) throw new Error(`${url} gave only ${size} bytes`)
      })
    const result = await timed([
      { name: 'direct', run: () => curl(`${replay.url}${name}`) },
      { name: 'nginx', run: () => curl(`${through.url}replay/${name}`) },
      { name: 'drawbridge', run: () => curl(`${proxy.http}/replay/${name}`, bearer), pid: proxy.pid },
    ])
    compare(`replayed bytes, ${kilobytes} KiB packets`, '', result, bytes)
    const nginx = result.get('nginx')?.seconds ?? Number.NaN
    const ours = result.get('drawbridge')?.seconds ?? Number.NaN
    rows.push({
      what: `replayed bytes, ${kilobytes} KiB packets`,
      way: 'drawbridge over nginx',
      value: '',
      ratio: ours / nginx,
    })
  }
  rows.push({
    what: 'memory of the proxy after it',
    way: 'drawbridge',
    value: `${(residentBytes(proxy.pid) / 1e6).toFixed(0)} MB`,
  })
}

if (wants('ls-remote')) {
  say('ls-remote')
  await makeRepository(join(hostFolder, 'small.git'), { branches: ['topic'], tags: ['v1'] })
  const ask = (url: string, env: { [name: string]: string }) => () => gitOk(['ls-remote', url], { env })
  const times = quick ? 8 : 20
  compare(
    'ls-remote over HTTP, whole command',
    '',
    await timed(
      [
        { name: 'direct', run: ask(`${backend.url}small.git`, {}) },
        { name: 'nginx', run: ask(`${through.url}real/small.git`, {}) },
        { name: 'drawbridge', run: ask(`${proxy.http}/real/small.git`, gitHttp) },
      ],
      times,
    ),
  )
  compare(
    `ls-remote over SSH, whole command (${KEX})`,
    '',
    await timed(
      [
        { name: 'direct', run: ask(`${sshd.url}${hostFolder}/small.git`, directSsh) },
        { name: 'drawbridge', run: ask(`${proxy.ssh}/ssh1/small.git`, gateSsh) },
      ],
      times,
    ),
  )
  say('16 at once over SSH')
  const many = (url: string, env: { [name: string]: string }) => async () => {
    await Promise.all(Array.from({ length: 16 }, () => git(['ls-remote', url], { env })))
  }
  for (const [label, direct, ours] of [
    [KEX, directSsh, gateSsh],
    [
      'each its own default',
      { GIT_SSH_COMMAND: sshCommand({ key: clientKey.path }) },
      { GIT_SSH_COMMAND: sshCommand({ key: gate.key.path }) },
    ],
  ] as const) {
    const result = await timed(
      [
        { name: 'direct', run: many(`${sshd.url}${hostFolder}/small.git`, direct) },
        { name: 'drawbridge', run: many(`${proxy.ssh}/ssh1/small.git`, ours) },
      ],
      rounds,
    )
    const per = (name: string) => 16 / (result.get(name)?.seconds ?? Number.NaN)
    rows.push({
      what: `SSH operations/s, 16 at once (${label})`,
      way: 'direct',
      value: `${per('direct').toFixed(1)}/s`,
    })
    rows.push({
      what: `SSH operations/s, 16 at once (${label})`,
      way: 'drawbridge',
      value: `${per('drawbridge').toFixed(1)}/s`,
      ratio: per('drawbridge') / per('direct'),
    })
  }
}

if (wants('info-refs')) {
  say('info/refs')
  const path = 'x/1-64.git/info/refs?service=git-upload-pack'
  const v2 = 'Git-Protocol: version=2'
  const places = [
    ['direct', new URL(`${replay.url}${path}`), [v2], undefined],
    ['nginx', new URL(`${through.url}replay/${path}`), [v2], undefined],
    ['drawbridge', new URL(`${proxy.http}/replay/${path}`), [v2, bearer], proxy.pid],
  ] as const
  const one = new Map<string, number[]>()
  const rate = new Map<string, number[]>()
  const cpu: number[] = []
  for (let round = 0; round <= rounds; round++) {
    for (const [name, url, headers, pid] of places) {
      const alone = await load({ url, headers, connections: 1, seconds: seconds / 2 })
      const before = pid ? cpuSeconds(pid) : 0
      const together = await load({ url, headers, connections: 16, seconds })
      if (round === 0) continue
      one.set(name, [...(one.get(name) ?? []), ...alone.latencies])
      rate.set(name, [...(rate.get(name) ?? []), together.requests / together.seconds])
      if (pid) cpu.push(((cpuSeconds(pid) - before) / together.requests) * 1e6)
    }
    say(`  round ${round}/${rounds}`)
  }
  const sorted = (name: string) => [...(one.get(name) ?? [])].sort((a, b) => a - b)
  for (const [name] of places) {
    const [p50, p99] = [0.5, 0.99].map(share => percentile(sorted(name), share)) as [number, number]
    const at16 = median(rate.get(name) ?? [])
    rows.push({
      what: 'info/refs, one at a time',
      way: name,
      value: `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
    })
    rows.push({
      what: 'info/refs, 16 at once',
      way: name,
      value: `${at16.toFixed(0)}/s${name === 'drawbridge' ? `, ${median(cpu).toFixed(0)} µs CPU each` : ''}`,
      ...(name === 'drawbridge' && { ratio: at16 / median(rate.get('nginx') ?? []), over: 'nginx' }),
    })
  }
  const added = (share: number) => percentile(sorted('drawbridge'), share) - percentile(sorted('direct'), share)
  rows.push({
    what: 'added by a checked and recorded operation',
    way: 'drawbridge',
    value: `p50 ${added(0.5).toFixed(2)} ms, p99 ${added(0.99).toFixed(2)} ms`,
  })
}

if (wants('revoke')) {
  say('revoke to last byte: 50 running operations on two proxies')
  const latencies = await revokeToLastByte(gate, { running: 50, times: quick ? 3 : 10 })
  rows.push({
    what: 'revoke acknowledged → last byte, 50 running, 2 proxies',
    way: 'drawbridge',
    value: `p50 ${percentile(latencies, 0.5).toFixed(0)} ms, p99 ${percentile(latencies, 0.99).toFixed(0)} ms`,
  })
}

await gate.revoke(replayGrant)
await Promise.all([gate.stop(), backend.stop(), through.stop(), sshd.stop()])
replay.stop()
takeDown()

const { patched, nativeCrypto } = ssh2State()
const machine = [
  `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
  `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
  `node ${process.versions.node}`,
  (await gitOk(['--version'])).replace('git version', 'git'),
  `ssh2 ${patched ? 'patched' : 'NOT patched'}, native crypto ${nativeCrypto ? 'loaded' : 'NOT loaded'}`,
].join(', ')
const text = table(rows, machine, { size: bytes, rounds })
process.stdout.write(text)
if (!only) {
  mkdirSync(new URL('results', import.meta.url), { recursive: true })
  const name = new URL(`results/${quick ? 'quick' : 'full'}`, import.meta.url).pathname
  writeFileSync(`${name}.md`, text)
  writeFileSync(`${name}.json`, `${JSON.stringify({ machine, bytes, rounds, rows }, null, 2)}\n`)
}
process.exit(0)

async function startReplay(): Promise<{ url: string; stop(): void }> {
  const child = spawn(process.execPath, [new URL('replay.ts', import.meta.url).pathname], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const port = await new Promise<string>(resolve =>
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().trim())),
  )
  return { url: `http://127.0.0.1:${port}/`, stop: () => child.kill() }
}
