import { existsSync, readdirSync } from 'node:fs'
import { chmod, chown, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, type Program, runProgram, startProgram, temporaryFolder, until, untilAccepting } from './program.ts'

export interface Postgres {
  readonly url: string
  readonly port: number
  readonly folder: string
  /** An orderly end. */
  stop(): Promise<void>
  /** kill -9 of the postmaster: the next start recovers from the write-ahead log. */
  kill(): Promise<void>
  /** Stops it in mid-air (SIGSTOP of the postmaster: no new connection is answered). */
  pause(): void
  resume(): void
  /** Starts it again at the same address with the same data. */
  restart(): Promise<void>
}

export interface PostgresOptions {
  /** Further settings, as postgres takes them: `['-c', 'max_connections=5']`. */
  readonly args?: readonly string[]
}

// The superuser of the clusters and the name of their one database.
const NAME = 'drawbridge'

/** The newest PostgreSQL on this machine; Debian keeps its programs away from PATH. */
function programs(): string {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root).filter(v => existsSync(join(root, v, 'bin/postgres'))) : []
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0]
  if (newest === undefined)
    throw new Error('no PostgreSQL server under /usr/lib/postgresql: apt-get install postgresql')
  return join(root, newest, 'bin')
}

/** postgres refuses to run as root, so root hands it to the account that Debian's package made. */
const user = process.getuid?.() === 0 ? 'postgres' : undefined
const asUser = user === undefined ? {} : { user }

/** A PostgreSQL cluster of its own on a loopback port, fsync on, with an empty database. Ends with this process. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const bin = programs()
  const folder = await ownedFolder()
  const data = join(folder, 'data')
  await runProgram('cp', ['-a', await template(bin), data], asUser)
  const port = await freePort()
  const args = [
    '-D',
    data,
    '-p',
    String(port),
    '-c',
    'listen_addresses=127.0.0.1',
    '-k',
    folder,
    ...(options.args ?? []),
  ]

  const start = async () => {
    // QUIT is postgres's "immediate": its children go with it and no shared memory is left.
    const started = await startProgram(join(bin, 'postgres'), args, { ...asUser, deathSignal: 'QUIT', cwd: folder })
    await untilAccepting(started, { port })
    await until(() => ready(bin, port), 'PostgreSQL to take queries')
    return started
  }
  let program: Program = await start()
  // After a kill the orphaned backends leave by themselves; until the last is gone the data folder counts as in use.
  const startAgain = () => until(() => start().catch(() => undefined), 'PostgreSQL to start again')
  return {
    url: `postgres://${NAME}@127.0.0.1:${port}/${NAME}`,
    port,
    folder,
    stop: () => program.stop('SIGINT'),
    kill: () => program.stop('SIGKILL'),
    pause: () => void process.kill(program.pid, 'SIGSTOP'),
    resume: () => void process.kill(program.pid, 'SIGCONT'),
    restart: async () => {
      await program.stop('SIGINT')
      program = await startAgain()
    },
  }
}

async function ready(bin: string, port: number): Promise<boolean> {
  const asked = await startProgram(join(bin, 'pg_isready'), ['-q', '-h', '127.0.0.1', '-p', String(port)])
  return (await asked.ended) === 0
}

/**
 * A cluster made once a run and copied for each start: initdb takes seconds, a copy does not. Two workers may make it at
 * the same time; the first rename wins.
 */
async function template(bin: string): Promise<string> {
  const run = process.env.DRAWBRIDGE_TEST_RUN ?? temporaryFolder('run')
  process.env.DRAWBRIDGE_TEST_RUN = run
  const made = join(run, 'postgres')
  if (existsSync(made)) return join(made, 'data')
  const folder = await ownedFolder(run)
  const data = join(folder, 'data')
  const initdb = ['-D', data, '-U', NAME, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync', '--wal-segsize=4']
  await runProgram(join(bin, 'initdb'), initdb, { ...asUser, cwd: folder })
  // Single-user mode reads a statement from its input; a shell hands it over, so that no server has to start for it.
  const create = `echo 'CREATE DATABASE ${NAME}' | "$0" --single -D "$1" postgres`
  await runProgram('sh', ['-c', create, join(bin, 'postgres'), data], { ...asUser, cwd: folder })
  await rename(folder, made).catch(async cause => {
    if (!existsSync(made)) throw cause
    await rm(folder, { recursive: true })
  })
  return join(made, 'data')
}

/** A folder that the account postgres runs under may write to. */
async function ownedFolder(below?: string): Promise<string> {
  const folder = below === undefined ? temporaryFolder('pg') : join(below, `postgres-${process.pid}`)
  await mkdir(folder, { recursive: true })
  if (user === undefined) return folder
  const uid = Number((await runProgram('id', ['-u', user])).trim())
  const gid = Number((await runProgram('id', ['-g', user])).trim())
  await chown(folder, uid, gid)
  await chmod(folder, 0o755)
  return folder
}
