import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import postgres from 'postgres'
import { main, type Role } from '../../admin/main.ts'
import { main as drawbridge } from '../../cli/drawbridge.ts'
import { main as gitAccess } from '../../cli/git-access.ts'
import type { Settings } from '../../config/settings.ts'
import { migrate } from '../../deploy/migrate.ts'
import { type Program, startProgram, temporaryFolder } from './program.ts'
import { plainSettings } from './settings.ts'

/** A control plane for a test, and the commands of people who each hold a token of it. */
export interface ControlPlane {
  readonly role: Role
  readonly url: string
  /** Below it: the policy in `policy.yaml`, each person's token in a file of that name. */
  readonly folder: string
  /** Who somebody is at the gate, for a program's environment. */
  as(principal: string): { [name: string]: string }
  /** A command in this process: many start faster than many processes. One at a time. */
  run(principal: string, command: CommandName, ...args: string[]): Promise<Ran>
  /** The same as a process of its own. */
  start(principal: string, command: CommandName, ...args: string[]): Promise<Program>
  /** Replaces the policy, as an operator does. */
  reload(policy: string): Promise<void>
  close(): Promise<void>
}

export type CommandName = 'git-access' | 'drawbridge'

export interface Ran {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

const COMMANDS = { 'git-access': gitAccess, drawbridge } as const
const ROOT = new URL('../..', import.meta.url).pathname

/**
 * @param engines the URLs of Redis and Postgres
 * @param tokensOf a control plane whose tokens this one takes as well
 * @param people principals and their roles, commas between
 */
export async function startControlPlane(
  engines: { readonly redis: string; readonly postgres: string },
  people: { readonly [principal: string]: string },
  policy: string,
  change: Partial<Settings> = {},
  tokensOf?: Pick<ControlPlane, 'folder'>,
): Promise<ControlPlane> {
  const sql = postgres(engines.postgres, { max: 1, onnotice: () => {} })
  await migrate(sql, join(ROOT, 'deploy/migrations'))
  await sql.end()
  const folder = temporaryFolder('control')
  const file = join(folder, 'policy.yaml')
  writeFileSync(file, policy)
  const listen = { admin: { host: '127.0.0.1', port: 0 } }
  const settings = plainSettings({ ...engines, state: folder, listen, policy: file, ...change })
  // What the state folder shares between control planes of one gate.
  if (tokensOf) {
    mkdirSync(join(folder, 'tokens'), { mode: 0o700 })
    cpSync(join(tokensOf.folder, 'tokens'), join(folder, 'tokens'), { recursive: true })
  }
  const role = await main(settings, { log: pino({ level: 'silent' }) })
  await role.ready
  const { admin: url = '', local = '' } = role.urls
  const as = (principal: string) => ({ DRAWBRIDGE_URL: url, DRAWBRIDGE_TOKEN_FILE: join(folder, principal) })
  for (const [principal, roles] of Object.entries(people)) {
    const made = await runHere({}, 'drawbridge', [
      ...['token', 'create', '--url', local, '--principal', principal, '--role', roles],
    ])
    if (made.status !== 0) throw new Error(`no token for ${principal}: ${made.stderr}`)
    writeFileSync(join(folder, principal), made.stdout, { mode: 0o600 })
  }
  return {
    role,
    url,
    folder,
    as,
    run: (principal, command, ...args) => runHere(as(principal), command, args),
    start: (principal, command, ...args) =>
      startProgram(process.execPath, [join(ROOT, 'cli', `${command}.ts`), ...args], {
        env: { ...plainEnvironment(), ...as(principal) },
      }),
    reload: async text => {
      writeFileSync(file, text)
      await role.reload(settings)
    },
    close: () => role.close(),
  }
}

const plainEnvironment = () =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DRAWBRIDGE_')))

async function runHere(
  env: { readonly [name: string]: string },
  command: CommandName,
  args: readonly string[],
): Promise<Ran> {
  const said = { stdout: '', stderr: '' }
  const before = { stdout: process.stdout.write, stderr: process.stderr.write, env: process.env }
  for (const stream of ['stdout', 'stderr'] as const) {
    process[stream].write = (chunk: string | Uint8Array) => {
      said[stream] += Buffer.from(chunk as string).toString()
      return true
    }
  }
  process.env = { ...plainEnvironment(), ...env }
  try {
    process.exitCode = undefined
    const status = await COMMANDS[command](args)
    return { status, ...said }
  } finally {
    process.exitCode = undefined
    process.stdout.write = before.stdout
    process.stderr.write = before.stderr
    process.env = before.env
  }
}
