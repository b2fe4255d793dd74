import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { holdFolder } from '../lock.ts'
import { announceReady, untilToldToStop } from '../parent.ts'
import { servePglite } from './pglite.ts'
import { engineSockets, makeSocketFolder } from './where.ts'

/**
 * The engines of a trial in a process of their own: `node deploy/embedded/main.ts STATE [redis] [postgres]`.
 * Ends with its parent.
 */
const [state = '', ...engines] = process.argv.slice(2)
const sockets = engineSockets(state)
makeSocketFolder(state)

const ORPHANED_MILLISECONDS_MAX = 20_000

// Meant for the roles; there is nothing to read again here.
process.on('SIGHUP', () => {})

// PGlite takes no lock of its own: two processes on one folder would destroy it.
const release = await holdFolder(state, 'engines')
if (!release) {
  process.stderr.write(`drawbridge: the engines of ${state} are running already\n`)
  process.exit(1)
}

const redis = engines.includes('redis') ? await startRedis() : undefined
const postgres = engines.includes('postgres') ? await startPostgres() : undefined
announceReady({})
// When the supervisor died the roles end by themselves, and what they still have to record needs us.
if ((await untilToldToStop()) === 'disconnect') await postgres?.unused(ORPHANED_MILLISECONDS_MAX)
await postgres?.close()
await redis?.close()
process.exit(0)

interface Engine {
  close(): Promise<void>
}

interface Postgres extends Engine {
  /** Resolves when no client is connected any more, or when the time is over. */
  unused(milliseconds: number): Promise<void>
}

async function startPostgres(): Promise<Postgres> {
  rmSync(sockets.postgres, { force: true })
  const database = await PGlite.create({ dataDir: join(state, 'postgres') })
  const server: Server = await servePglite(database, sockets.postgres)
  const clients = () => new Promise<number>(resolve => server.getConnections((_, count) => resolve(count ?? 0)))
  return {
    unused: async milliseconds => {
      const deadline = performance.now() + milliseconds
      while ((await clients()) > 0 && performance.now() < deadline)
        await new Promise(resolve => setTimeout(resolve, 100))
    },
    close: async () => {
      server.close()
      await database.close()
    },
  }
}

async function startRedis(): Promise<Engine> {
  // One that outlived its parent: we hold the lock, so nobody uses it.
  await shutDown(sockets.redis)
  const folder = join(state, 'redis')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const args = ['--port', '0', '--unixsocket', sockets.redis, '--unixsocketperm', '700', '--dir', folder, '--save', '']
  args.push('--appendonly', 'yes', '--maxmemory-policy', 'noeviction', '--loglevel', 'warning')
  // Where the kernel can end it with us, let it.
  const tied = existsSync('/usr/bin/setpriv')
    ? ['setpriv', '--pdeathsig', 'TERM', '--', 'redis-server']
    : ['redis-server']
  const child = spawn(tied[0]!, [...tied.slice(1), ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  ended.then(() => {
    if (stopping) return
    process.stderr.write('drawbridge: redis-server ended; is it installed? apt-get install redis-server\n')
    process.exit(1)
  })
  let stopping = false
  while (!(await answers(sockets.redis))) await new Promise(resolve => setTimeout(resolve, 50))
  return {
    close: async () => {
      stopping = true
      child.kill('SIGTERM')
      await ended
    },
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

async function shutDown(path: string): Promise<void> {
  if (!(await answers(path))) return
  await new Promise<void>(resolve => {
    const socket = connect(path, () => socket.write('SHUTDOWN\r\n'))
    socket.once('error', () => resolve()).once('close', () => resolve())
    socket.resume()
  })
}
