#!/usr/bin/env node
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { loadSettings } from '../config/load.ts'
import { ConfigError } from '../config/problem.ts'
import { secretsOf } from '../config/secrets.ts'
import type { Settings } from '../config/settings.ts'
import { asWorker } from '../config/workers.ts'
import { wantsEngines, withEngines } from '../deploy/embedded/where.ts'
import { withHostKey } from '../deploy/hostkey.ts'
import { createLog } from '../deploy/log.ts'
import { MigrationError, migrate } from '../deploy/migrate.ts'
import { type Observed, observe } from '../deploy/observe.ts'
import { announceFailure, announceReady, untilToldToStop } from '../deploy/parent.ts'
import { onSignal } from '../deploy/signal.ts'
import { STATUS_SETTINGS, type Supervised, supervise, type Watched } from '../deploy/supervise.ts'
import { PROXY_FLAGS, withProxyFlags } from '../deploy/vm.ts'
import { holdName, leftoverNumbers, settle } from '../deploy/workers/leftovers.ts'
import { WorkersFailed } from '../deploy/workers/pool.ts'
import { type Enlisted, enlist } from '../deploy/workers/worker.ts'

export const ROLES = ['proxy', 'admin', 'ca'] as const
export type RoleName = (typeof ROLES)[number]

/** What a role's `main` is given and gives. */
interface Role {
  readonly ready: Promise<void>
  readonly urls: Readonly<Record<string, string>>
  reload(settings: Settings): Promise<void>
  /** Puts on record that settings were not taken over; absent where there is no ledger to put it into. */
  refused?(reason: string): Promise<void>
  /** What is watched of it where `listen.metrics` says. */
  readonly observed: Observed
  /** Of a proxy: takes nothing new, and comes to the end of what is open. */
  retire?(): Promise<void>
  /** Of a proxy of several processes: the same processes anew, by these settings, without a gap. */
  restart?(settings: Settings): Promise<void>
  readonly gaveUp?: Promise<WorkersFailed>
  close(): Promise<void>
}

interface Context {
  readonly log: Logger
  readonly trial: boolean
  readonly siblings?: Enlisted['siblings']
}
type Main = (settings: Settings, context: Context) => Promise<Role>

// Loaded when it is run, so that a proxy's process holds nothing of the control plane.
const MAINS: Readonly<Record<RoleName, () => Promise<{ main: Main }>>> = {
  proxy: () => import('../proxy/main.ts'),
  admin: () => import('../admin/main.ts'),
  ca: () => import('../deploy/authority.ts'),
}

const MIGRATIONS = fileURLToPath(new URL('../deploy/migrations', import.meta.url))
const SCRIPT = fileURLToPath(import.meta.url)
const ENGINES = fileURLToPath(new URL('../deploy/embedded/main.ts', import.meta.url))

/** Beyond `limits.drain`, what a role gets to close its connections before it is ended. */
const CLOSE_MILLISECONDS = 15_000
/** Between two looks whether a database that was away at the start is back. */
const SCHEMA_RETRY_MILLISECONDS = 2_000

function say(line: string): void {
  process.stderr.write(`drawbridge: ${line}\n`)
}

function read(config: string): Settings | undefined {
  try {
    return loadSettings(config, process.env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    for (const line of error.message.split('\n')) say(line)
    return undefined
  }
}

/**
 * `drawbridge serve`: one role in this process, or several as a process each, watched over.
 * @returns the exit status: 0 after SIGTERM, 78 when the settings are wrong or the database is of another version, 1 otherwise
 */
export async function serve(options: {
  /** Left out: all that the settings have. */
  readonly roles?: readonly RoleName[]
  readonly config: string
  /** This process is one of the workers of a proxy, the one with this number. */
  readonly worker?: number
}): Promise<number> {
  const settings = read(options.config)
  if (!settings) return STATUS_SETTINGS
  if (options.worker !== undefined) return await serveRole('proxy', settings, options.worker)
  const roles = options.roles ?? ROLES.filter(role => role !== 'ca' || settings.ca.configured)
  const [only] = roles
  if (roles.length === 1 && only) return await serveRole(only, settings)
  return await serveRoles(roles, settings)
}

/** What a role finds in its state folder before it starts: only the proxy shows a host key. */
function prepared(name: RoleName, settings: Settings): Settings {
  return name === 'proxy' ? withHostKey(settings) : settings
}

/** Whether a proxy by these settings is several processes, and one before them that serves nothing itself. */
function hasWorkers({ workers }: Settings): boolean {
  return workers > 1
}

async function serveRole(name: RoleName, whole: Settings, number?: number): Promise<number> {
  const crewed = name === 'proxy' && hasWorkers(whole) && number === undefined
  if (name === 'proxy' && !crewed) withProxyFlags()
  const share = (settings: Settings) => (number === undefined ? settings : asWorker(settings, number))
  const written = share(whole)
  const worker = number === undefined ? undefined : enlist(number)
  const secrets = new Set(secretsOf(written))
  const log = createLog(name, written.name, process.env, secrets)
  const told = untilToldToStop()
  const hangup = onSignal('SIGHUP')
  const restart = onSignal('SIGUSR2')
  let role: Role
  let settings: Settings
  let watch: Awaited<ReturnType<typeof observe>> | undefined
  try {
    const embedded = withEngines(prepared(name, written))
    settings = embedded.settings
    Object.assign(process.env, embedded.env)
    if (number !== undefined) await takeName(whole, number)
    else if (name === 'proxy' && !crewed) await succeed(settings, log)
    await prepareDatabase(name, settings, log)
    const { main } = crewed ? await workersMain(settings) : await MAINS[name]()
    role = await main(settings, { log, trial: wantsEngines(written), ...(worker && { siblings: worker.siblings }) })
    await role.ready
    worker?.observe(role.observed)
    const watched = settings.listen.metrics?.[name]
    watch = watched && (await observe(watched, role.observed))
  } catch (error) {
    log.fatal({ err: error }, `the role ${name} could not start`)
    await announceFailure(error instanceof Error ? error.message : String(error))
    return statusOf(error)
  }
  const readAgain = () => withEngines(prepared(name, share(loadSettings(whole.file, process.env)))).settings
  hangup.act(async () => {
    settings = (await reload(role, readAgain, log, secrets)) ?? settings
  })
  restart.act(() => restartWorkers(role, readAgain, log, secrets))
  const urls = { ...role.urls, ...(watch && { [`${name}-metrics`]: watch.url }) }
  log.info({ urls }, 'ready')
  announceReady(urls, { role: name })

  const why = await Promise.race([told, ...(worker ? [worker.told] : []), ...(role.gaveUp ? [role.gaveUp] : [])])
  worker?.stopping()
  watch?.stopping()
  restart.ignore()
  await hangup.ignore()
  if (why instanceof Error) log.fatal({ err: why }, 'the workers were given up')
  log.info({ why: why instanceof Error ? why.message : why, drain: settings.limits.drain }, 'stopping')
  const late = setTimeout(
    () => {
      log.error('did not stop in time')
      process.exit(1)
    },
    settings.limits.drain + (crewed ? 2 : 1) * CLOSE_MILLISECONDS,
  )
  await (why === 'retire' ? role.retire?.() : role.close())
  watch?.close()
  clearTimeout(late)
  log.info('stopped')
  return why instanceof Error ? why.status : 0
}

/**
 * Brings the schema up to date. A proxy that spools starts without its database; the schema is looked at when that is back,
 * and what was spooled stays on the disk until it fits.
 */
async function prepareDatabase(name: RoleName, settings: Settings, log: Logger): Promise<void> {
  try {
    await updateSchema(settings, log)
  } catch (error) {
    if (error instanceof MigrationError || name !== 'proxy' || settings.ledger.whenAway !== 'spool') throw error
    log.warn({ err: error }, 'the database is away: starting without it, records are spooled')
    void updateSchemaLater(settings, log)
  }
}

async function updateSchemaLater(settings: Settings, log: Logger): Promise<void> {
  for (;;) {
    await sleep(SCHEMA_RETRY_MILLISECONDS, undefined, { ref: false })
    try {
      return await updateSchema(settings, log)
    } catch (error) {
      if (!(error instanceof MigrationError)) continue
      log.error(
        { err: error },
        'the database belongs to another version: what is spooled waits until that is put right',
      )
      return
    }
  }
}

async function updateSchema(settings: Settings, log: Logger): Promise<void> {
  const sql = postgres(settings.postgres, { max: 1, connect_timeout: 5, onnotice: () => {} })
  try {
    const applied = await migrate(sql, MIGRATIONS)
    if (applied.length > 0) log.info({ applied }, 'database schema brought up to date')
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** The exit status after a start that failed. */
function statusOf(error: unknown): number {
  if (error instanceof WorkersFailed) return error.status
  return error instanceof MigrationError && error.code !== 'ERR_MIGRATION_FAILED' ? STATUS_SETTINGS : 1
}

/** SIGHUP: a file that does not load, or that the role cannot take over, changes nothing. */
async function reload(
  role: Role,
  readAgain: () => Settings,
  log: Logger,
  secrets: Set<string>,
): Promise<Settings | undefined> {
  try {
    const settings = readAgain()
    for (const secret of secretsOf(settings)) secrets.add(secret)
    await role.reload(settings)
    log.info({ file: settings.file }, 'settings reloaded')
    return settings
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    log.error(
      error instanceof ConfigError ? { problems: error.problems } : { err: error },
      `settings not reloaded: ${reason}`,
    )
    await role.refused?.(reason).catch(cause => log.error({ err: cause }, 'that could not be recorded'))
    return undefined
  }
}

/** SIGUSR2: new workers take the place of those that serve. What goes wrong on the way leaves those where they are. */
async function restartWorkers(role: Role, readAgain: () => Settings, log: Logger, secrets: Set<string>): Promise<void> {
  if (!role.restart) {
    log.warn('SIGUSR2 is for a proxy with workers: 2 or more; restart this role the usual way')
    return
  }
  try {
    const settings = readAgain()
    for (const secret of secretsOf(settings)) secrets.add(secret)
    log.info({ workers: settings.workers }, 'restarting the workers')
    await role.restart(settings)
    log.info('the workers were restarted')
  } catch (error) {
    log.error(
      error instanceof ConfigError ? { problems: error.problems } : { err: error },
      'the workers were not restarted, those before go on',
    )
  }
}

/** The first process of a proxy with workers, in place of the proxy itself. */
async function workersMain({ file }: Settings): Promise<{ main: Main }> {
  const { main } = await import('../deploy/workers/main.ts')
  return {
    main: (settings, { log }) =>
      main(settings, {
        log,
        farewell: CLOSE_MILLISECONDS,
        // In a session of its own: Ctrl-C in the terminal reaches the first process alone, which ends everything in order.
        spawn: number => {
          const args = [...PROXY_FLAGS, SCRIPT, '--role', 'proxy', '--config', file, '--worker', String(number)]
          return spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true })
        },
      }),
  }
}

/** Holds the name a worker writes its records under. */
async function takeName(gate: Settings, number: number): Promise<void> {
  const held = await holdName(gate, number)
  if (!held) throw new Error(`another process is worker ${number} of ${gate.name}`)
}

/**
 * Holds the name of a proxy of one process, and ends what the workers of an earlier run left open. Neither is worth refusing
 * to start for: nobody but workers asks for the name.
 */
async function succeed(settings: Settings, log: Logger): Promise<void> {
  const cannot = `the name ${settings.name} cannot be held on this machine`
  const held = await holdName(settings, 0).catch(error => log.warn({ err: error }, cannot))
  if (!held) log.warn(`${cannot}: does another process use it?`)
  const leftovers = { settings: () => settings, signal: new AbortController().signal, log }
  const settleAll = async () => {
    for (const number of await leftoverNumbers(leftovers)) if (number !== 0) await settle(number, leftovers)
  }
  void settleAll()
}

/** The processes for these roles, the engines among them where the settings ask for our own. */
export function superviseRoles(
  roles: readonly RoleName[],
  settings: Settings,
  output: number | 'inherit' = 'inherit',
): Supervised {
  const engines = (['redis', 'postgres'] as const).filter(engine => settings[engine] === 'embedded')
  const after = engines.length > 0 ? ['engines'] : []
  const watched: Watched[] = roles.map(role => ({
    name: role,
    script: SCRIPT,
    args: ['--role', role, '--config', settings.file],
    ...(role === 'proxy' && !hasWorkers(settings) && { flags: PROXY_FLAGS }),
    env: process.env,
    after,
  }))
  if (engines.length > 0) {
    watched.unshift({
      name: 'engines',
      script: ENGINES,
      args: [settings.state, ...engines],
      env: process.env,
      after: [],
    })
  }
  return supervise(watched, { say, output })
}

/** How long `Supervised.stop` may take: what the roles themselves keep to, and a little. */
export function stopMilliseconds(settings: Settings): number {
  return settings.limits.drain + 3 * CLOSE_MILLISECONDS
}

async function serveRoles(roles: readonly RoleName[], settings: Settings): Promise<number> {
  const supervised = superviseRoles(roles, settings)
  process.on('SIGHUP', () => supervised.hangup())
  process.on('SIGUSR2', () => supervised.restart('proxy'))
  supervised.ready.then(
    urls => announceReady(urls, { roles }),
    () => {},
  )
  const why = await Promise.race([untilToldToStop().then(() => undefined), supervised.gaveUp])
  if (why !== undefined) say(`${why}; stopping`)
  await supervised.stop(stopMilliseconds(settings))
  return why === undefined ? 0 : 1
}

const USAGE = `usage: drawbridge serve [--role ${ROLES.join('|')}]... [--config FILE]`

/** The command line of `drawbridge serve`. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { role: { type: 'string', multiple: true }, config: { type: 'string' }, worker: { type: 'string' } },
    })
    const roles = values.role && [...new Set(values.role)]
    const unknown = roles?.find(role => !isRole(role))
    if (unknown !== undefined) throw new Error(`${JSON.stringify(unknown)} is no role`)
    const config = values.config ?? process.env.DRAWBRIDGE_CONFIG ?? 'drawbridge.yaml'
    return await serve({
      ...(roles && { roles: roles.filter(isRole) }),
      config,
      ...(values.worker !== undefined && { worker: Number(values.worker) }),
    })
  } catch (error) {
    say(`${error instanceof Error ? error.message : error}\n${USAGE}`)
    return 64
  }
}

function isRole(name: string): name is RoleName {
  return (ROLES as readonly string[]).includes(name)
}

// An exit rather than an exit code: an idle connection somewhere must not keep a stopped role alive.
if (import.meta.main) process.exit(await main(process.argv.slice(2)))
