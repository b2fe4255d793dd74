import { existsSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { band } from '../../proxy/git/sideband.ts'
import { type GateProcess, startGateProcess } from '../support/gateprocess.ts'
import { gitOk, makeRepository } from '../support/git.ts'
import { makeNoiseRepository } from '../support/noise.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// What passes through the proxy leaves nothing behind in it: its resident memory, as the kernel counts it, stays where it was.

/** What a proxy that lets the garbage collector find each read's buffer exceeds two or three times over. */
const GROWTH_BYTES_MAX = 32 << 20
const BYTES = process.env.STORY_HUGE ? 5e9 : process.env.STORY_LARGE ? 1 << 30 : 96 << 20
const MILLISECONDS = 240_000 + Math.ceil(BYTES / 1_500)
const SAMPLE_MILLISECONDS = 10

let stand: Stand

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  await makeNoiseRepository(repository('small'), 1 << 20)
  await makeNoiseRepository(repository('large'), BYTES)
  for (const upstream of ['web', 'ssh1', 'endless'])
    await stand.grant({ repository: `${upstream}/**`, expires: Date.now() + 3_600_000 })
}, MILLISECONDS)
afterAll(() => stand?.close())

const repository = (name: string) => join(stand.folder, 'acme', `${name}.git`)

function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024
}

/** How far its memory rises above where it stood, while `work` is done. */
async function growth({ program: { pid } }: GateProcess, work: () => Promise<unknown>): Promise<number> {
  const before = residentBytes(pid)
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, residentBytes(pid))
  }, SAMPLE_MILLISECONDS)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return most - before
}

/** A row of clones or pushes of one repository through one proxy. */
async function passing(gate: GateProcess, transport: 'http' | 'ssh', what: 'clone' | 'push') {
  const upstream = transport === 'http' ? 'web' : 'ssh1'
  return async (name: 'small' | 'large'): Promise<void> => {
    if (what === 'clone') {
      const { url, env } = await stand.remote(transport, `${upstream}/acme/${name}`, gate)
      const into = join(temporaryFolder('clone'), 'work')
      await gitOk(['clone', '-q', '--bare', url, into], { env, timeout: MILLISECONDS })
      rmSync(into, { recursive: true })
      return
    }
    const bare = await makeRepository(repository(`into-${name}`), { commits: 0 })
    const { url, env } = await stand.remote(transport, `${upstream}/acme/into-${name}`, gate)
    await gitOk(['push', '-q', url, 'main'], { cwd: repository(name), env, timeout: MILLISECONDS })
    rmSync(bare, { recursive: true })
  }
}

describe.skipIf(!existsSync('/proc/self/status'))('the memory of the proxy', () => {
  for (const transport of ['http', 'ssh'] as const) {
    for (const what of ['clone', 'push'] as const) {
      test(
        `stays flat under a ${what} of ${Math.round(BYTES / 1e6)} MB over ${transport}`,
        async () => {
          const gate = await startGateProcess(stand, { name: `${transport}-${what}` })
          const pass = await passing(gate, transport, what)
          // The code of the way is loaded and compiled by then; what is left to grow with is the pack.
          for (let warm = 0; warm < 3; warm++) await pass('small')
          const grown = await growth(gate, () => pass('large'))
          await gate.program.stop()
          expect(grown).toBeLessThan(GROWTH_BYTES_MAX)
        },
        MILLISECONDS,
      )
    }
  }

  test('a hundred clients, by HTTP and by SSH, that do not read take less than a megabyte each', async () => {
    const count = 100
    const host = await startEndlessHost()
    const settings = {
      ...[...stand.settings.upstreams.values()][0]!,
      name: 'endless',
      url: host.url,
      credential: { type: 'none' as const },
      connections: count,
    }
    const gate = await startGateProcess(stand, { name: 'slow', upstreams: new Map([['endless', settings]]) })
    const open = [openClone, openCloneOverSsh]
    for (const each of open) await (await each(gate)).first
    const grown = await growth(gate, async () => {
      for (let i = 0; i < count - open.length; i++) await (await open[i % open.length]!(gate)).first
      // Each has had its first bytes; now nothing of the rest moves any more, for a while.
      await until(() => host.still(500), 'everything to stand still')
    })
    expect(grown / count).toBeLessThan(1 << 20)
    for (const each of clients.splice(0)) each.destroy()
    await gate.program.stop()
    host.server.close()
  }, 120_000)
})

const clients: { destroy(): void }[] = []
const CLONE = Buffer.concat([line('command=fetch'), DELIM, line(`want ${'1'.repeat(40)}`), line('done'), FLUSH])

/** Asks for a pack over HTTP, and stops reading once it begins. */
async function openClone(gate: GateProcess): Promise<{ first: Promise<void> }> {
  const url = new URL(gate.urls.http!)
  const socket = connect({ host: url.hostname, port: Number(url.port) })
  socket.on('error', () => {})
  const head = [
    'POST /endless/acme/app.git/git-upload-pack HTTP/1.1',
    'Host: gate',
    `Authorization: Bearer ${await stand.token('alice')}`,
    'Content-Type: application/x-git-upload-pack-request',
    'Git-Protocol: version=2',
    `Content-Length: ${CLONE.length}`,
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  socket.write(CLONE)
  clients.push(socket)
  const first = new Promise<void>((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => {
      socket.pause()
      if (chunk.toString('latin1', 0, 12) === 'HTTP/1.1 200') resolve()
      else reject(new Error(chunk.toString('latin1', 0, 300)))
    })
  })
  return { first }
}

/** The same over SSH. */
async function openCloneOverSsh(gate: GateProcess): Promise<{ first: Promise<void> }> {
  const url = new URL(gate.urls.ssh!)
  const client = new ssh2.Client()
  clients.push(client)
  client.on('error', () => {})
  const first = new Promise<void>((resolve, reject) => {
    client.on('ready', () => {
      client.exec(
        "git-upload-pack '/endless/acme/app.git'",
        { env: { GIT_PROTOCOL: 'version=2' } },
        (error, channel) => {
          if (error) return reject(error)
          let said = ''
          channel.write(CLONE)
          channel.on('data', (chunk: Buffer) => {
            said += chunk.toString('latin1', 0, 2_000)
            if (!said.includes('packfile')) return
            channel.pause()
            resolve()
          })
        },
      )
    })
    const privateKey = readFileSync(stand.key.path)
    client.connect({ host: url.hostname, port: Number(url.port), username: 'git', privateKey })
  })
  return { first }
}

interface EndlessHost {
  readonly server: Server
  readonly url: URL
  /** Whether no byte went out in the last so many milliseconds. */
  still(milliseconds: number): boolean
}

const ADVERTISEMENT = Buffer.concat([line('version 2'), line('fetch'), line('object-format=sha1'), FLUSH])

/** A host whose packs have no end: it sends for as long as somebody takes it. */
async function startEndlessHost(): Promise<EndlessHost> {
  const packet = band(1, Buffer.alloc(8_000, 0x5a))
  const block = Buffer.concat(Array.from({ length: 16 }, () => packet))
  const chunk = Buffer.concat([Buffer.from(`${block.length.toString(16)}\r\n`), block, Buffer.from('\r\n')])
  const start = Buffer.concat([line('packfile'), band(1, Buffer.from('PACK\0\0\0\x02\0\0\0\x01', 'latin1'))])
  let moved = performance.now()
  const server = createServer({ noDelay: true }, socket => {
    const send = () => {
      moved = performance.now()
      while (!socket.destroyed && socket.write(chunk));
    }
    socket.on('error', () => {})
    socket.on('drain', send).on('data', asked => {
      if (asked.toString('latin1', 0, 4) === 'GET ') {
        const type = 'Content-Type: application/x-git-upload-pack-advertisement'
        socket.write(`HTTP/1.1 200 OK\r\n${type}\r\nContent-Length: ${ADVERTISEMENT.length}\r\n\r\n`)
        socket.write(ADVERTISEMENT)
        return
      }
      // The body of a request may come by itself.
      if (asked.toString('latin1', 0, 5) !== 'POST ') return
      socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\n')
      socket.write(`Transfer-Encoding: chunked\r\n\r\n${start.length.toString(16)}\r\n`)
      socket.write(Buffer.concat([start, Buffer.from('\r\n')]))
      send()
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    server,
    url: new URL(`http://127.0.0.1:${port}/`),
    still: milliseconds => performance.now() - moved > milliseconds,
  }
}
