import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { CommandError, EXIT } from './say.ts'

/**
 * What `git access login` keeps between commands: for each gate, the sign-in and the short-lived token of the moment. A file only
 * its owner can read, `$XDG_STATE_HOME/drawbridge/signins.json`.
 */
export interface KeptSignin {
  /** The admin address of the gate, and the base of its git URLs over HTTP. */
  readonly gate: string
  readonly http?: string
  readonly ssh?: string
  readonly caFile?: string
  readonly signin: string
  readonly principal: string
  /** Renews tokens until the sign-in ends. */
  readonly secret: string
  readonly expires: string
  readonly token: string
  readonly tokenExpires: string
}

interface Kept {
  readonly last?: string
  readonly signins: readonly KeptSignin[]
}

const FILE_BYTES_MAX = 1 << 20

/** Private to the user; made by whoever writes there. */
export function stateFolder(env: NodeJS.ProcessEnv): string {
  return join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'drawbridge')
}

/** The sign-in at a gate; without one named, the latest. Also one that is over: the gate decides. */
export function keptSignin(env: NodeJS.ProcessEnv, gate?: string): KeptSignin | undefined {
  const { last, signins } = read(env)
  const wanted = gate?.replace(/\/+$/, '') ?? last
  return signins.find(kept => kept.gate === wanted)
}

/** The sign-in at the gate whose git URLs begin so. */
export function keptForGit(env: NodeJS.ProcessEnv, origin: string): KeptSignin | undefined {
  return read(env).signins.find(
    ({ http }) => http !== undefined && URL.canParse(http) && new URL(http).origin === origin,
  )
}

/** Keeps a sign-in, in place of an earlier one at the same gate. */
export function keep(env: NodeJS.ProcessEnv, kept: KeptSignin): void {
  const others = read(env).signins.filter(({ gate }) => gate !== kept.gate)
  write(env, { last: kept.gate, signins: [...others, kept] })
}

export function forget(env: NodeJS.ProcessEnv, gate: string): void {
  const { last, signins } = read(env)
  const others = signins.filter(kept => kept.gate !== gate)
  const next = last === gate ? others.at(-1)?.gate : last
  write(env, { signins: others, ...(next !== undefined && { last: next }) })
}

const fileOf = (env: NodeJS.ProcessEnv) => join(stateFolder(env), 'signins.json')

function read(env: NodeJS.ProcessEnv): Kept {
  const file = fileOf(env)
  let text: string
  try {
    const { mode, size } = statSync(file)
    if (mode & 0o077)
      throw new CommandError(EXIT.denied, `${file} can be read by others`, `rm ${file}; git access login`)
    if (size > FILE_BYTES_MAX)
      throw new CommandError(EXIT.failed, `${file} is too large`, `rm ${file}; git access login`)
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof CommandError) throw error
    return { signins: [] }
  }
  try {
    const kept: unknown = JSON.parse(text)
    if (typeof kept === 'object' && kept !== null && 'signins' in kept && Array.isArray(kept.signins))
      return kept as Kept
  } catch {
    // Half a file: nothing that could be used.
  }
  return { signins: [] }
}

/** In one piece: two commands at once leave one of two whole files. */
function write(env: NodeJS.ProcessEnv, kept: Kept): void {
  const file = fileOf(env)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const beside = `${file}.${randomBytes(6).toString('hex')}`
  try {
    writeFileSync(beside, `${JSON.stringify(kept, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' })
    renameSync(beside, file)
  } finally {
    rmSync(beside, { force: true })
  }
}
