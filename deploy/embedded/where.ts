import { createHash } from 'node:crypto'
import { constants, lstatSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Settings } from '../../config/settings.ts'

/** A socket's path ends at 107 bytes on Linux and 103 on macOS; our longest file name in the folder takes 20. */
const FOLDER_BYTES_MAX = 80

/** The folder for a state folder's sockets: inside it, or, where that is too deep for a socket's path, a private one beside. */
function socketFolder(state: string): string {
  const inside = join(state, 'run')
  if (Buffer.byteLength(inside) <= FOLDER_BYTES_MAX) return inside
  const name = createHash('sha256').update(state).digest('hex').slice(0, 12)
  return join(tmpdir(), `drawbridge-${process.getuid?.() ?? 0}-${name}`)
}

/**
 * Makes that folder. Elsewhere than below `state` its name can be foretold, and somebody else may have made it first, to answer
 * at our sockets.
 * @throws when it is not ours alone
 */
export function makeSocketFolder(state: string): string {
  const folder = socketFolder(state)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { uid, mode } = lstatSync(folder)
  if (uid !== (process.getuid?.() ?? uid) || (mode & S_IFMT) !== S_IFDIR || (mode & 0o022) !== 0) {
    throw new Error(`${folder} is not ours alone: remove it, or choose a shorter path for state`)
  }
  return folder
}
const { S_IFMT, S_IFDIR } = constants

/** Socket of the embedded Redis, and the folder of the embedded Postgres's socket. */
export function engineSockets(state: string) {
  const folder = socketFolder(state)
  return { folder, redis: join(folder, 'redis.sock'), postgres: join(folder, '.s.PGSQL.5432') }
}

/** Whether the settings ask for an engine of our own. */
export function wantsEngines(settings: Settings): boolean {
  return settings.redis === 'embedded' || settings.postgres === 'embedded'
}

/**
 * The settings with `embedded` replaced by where the engines are. A URL cannot say "this folder's socket" to the Postgres
 * client, so that goes by PGHOST, libpq's own variable, which `env` is to be given.
 */
export function withEngines(settings: Settings): { settings: Settings; env: Record<string, string> } {
  const sockets = engineSockets(settings.state)
  const redis = settings.redis === 'embedded' ? `unix://${sockets.redis}` : settings.redis
  if (settings.postgres !== 'embedded') return { settings: { ...settings, redis }, env: {} }
  return {
    settings: { ...settings, redis, postgres: 'postgres:///postgres' },
    env: { PGHOST: sockets.folder, PGUSER: 'drawbridge' },
  }
}
