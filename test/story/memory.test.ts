import { existsSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { band } from '../../proxy/git/sideband.ts'
import { type GateProcess, startGateProcess } from '../support/gateprocess.ts'
import { cloneRepository, gitOk, makeRepository } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// What passes through the proxy leaves nothing behind in it: its resident memory, as the kernel counts it, stays where it was.

/** What a proxy that lets the garbage collector find each read's buffer exceeds two or three times over. */
const GROWTH_BYTES_MAX = 32 << 20
const BYTES = process.env.STORY_LARGE ? 1 << 30 : 96 << 20
const MILLISECONDS = process.env.STORY_LARGE ? 900_000 : 240_000
const SAMPLE_MILLISECONDS = 10

let stand: Stand
let small: string
let large: string

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  const make = async (name: string, bytes: number) => {
    const bare = await makeRepository(join(stand.folder, 'acme', `${name}.git`), { bytes })
    return cloneRepository(bare)
  }
  small = await make('small', 1 << 20)
  large = await make('large', BYTES)
  for (const upstream of ['web', 'ssh1', 'endless'])
    await stand.grant({ repository: `${upstream}/**`, expires: Date.now() + 3_600_000 })
}, MILLISECONDS)
afterAll(() => stand?.close())

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
    const bare = await makeRepository(join(stand.folder, 'acme', `into-${name}.git`), { commits: 0 })
    const { url, env } = await stand.remote(transport, `${upstream}/acme/into-${name}`, gate)
    const cwd = name === 'small' ? small : large
    await gitOk(['push', '-q', url, 'HEAD:refs/heads/main'], { cwd, env, timeout: MILLISECONDS })
    rmSync(bare, { recursive: true })
  }
}

describe.skipIf(!existsSync('/proc/self/status'))('the memory of the proxy', () => {
  for (const transport of ['http', 'ssh'] as const) {
    for (const what of ['clone', 'push'] as const) {
      test(
        `stays flat under a ${what} of ${BYTES >> 20} MiB over ${transport}`,
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

  test('a hundred clients that do not read take less than a megabyte each', async () => {
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
    await (await openClone(gate)).first
    const clients: Socket[] = []
    const grown = await growth(gate, async () => {
      for (let i = 0; i < count - 1; i++) {
        const { socket, first } = await openClone(gate)
        clients.push(socket)
        await first
      }
      // Each has had its first bytes; now nothing of the rest moves any more, for a while.
      await until(() => host.still(500), 'everything to stand still')
    })
    expect(grown / count).toBeLessThan(1 << 20)
    for (const socket of clients) socket.destroy()
    await gate.program.stop()
    host.server.close()
  }, 120_000)
})

/** Asks for a pack over HTTP, and stops reading once it begins. */
async function openClone(gate: GateProcess): Promise<{ socket: Socket; first: Promise<void> }> {
  const url = new URL(gate.urls.http!)
  const socket = connect({ host: url.hostname, port: Number(url.port) })
  socket.on('error', () => {})
  const body = Buffer.concat([line('command=fetch'), DELIM, line(`want ${'1'.repeat(40)}`), line('done'), FLUSH])
  const head = [
    'POST /endless/acme/app.git/git-upload-pack HTTP/1.1',
    'Host: gate',
    `Authorization: Bearer ${await stand.token('alice')}`,
    'Content-Type: application/x-git-upload-pack-request',
    'Git-Protocol: version=2',
    `Content-Length: ${body.length}`,
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  socket.write(body)
  const first = new Promise<void>((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => {
      socket.pause()
      if (chunk.toString('latin1', 0, 12) === 'HTTP/1.1 200') resolve()
      else reject(new Error(chunk.toString('latin1', 0, 300)))
    })
  })
  return { socket, first }
}

interface EndlessHost {
  readonly server: Server
  readonly url: URL
  /** Whether no byte went out in the last so many milliseconds. */
  still(milliseconds: number): boolean
}

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
    socket.on('drain', send).once('data', () => {
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
