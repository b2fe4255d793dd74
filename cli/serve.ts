#!/usr/bin/env node
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Logger } from 'pino'
import postgres from 'postgres'
import { loadSettings } from '../config/load.ts'
import { ConfigError } from '../config/problem.ts'
import { secretsOf } from '../config/secrets.ts'
import type { Settings } from '../config/settings.ts'
import { wantsEngines, withEngines } from '../deploy/embedded/where.ts'
import { withHostKey } from '../deploy/hostkey.ts'
import { createLog } from '../deploy/log.ts'
import { MigrationError, migrate } from '../deploy/migrate.ts'
import { type Observed, observe } from '../deploy/observe.ts'
import { announceFailure, announceReady, untilToldToStop } from '../deploy/parent.ts'
import { STATUS_SETTINGS, type Supervised, supervise, type Watched } from '../deploy/supervise.ts'

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
  close(): Promise<void>
}
type Main = (settings: Settings, context: { log: Logger; trial: boolean }) => Promise<Role>

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
}): Promise<number> {
  const settings = read(options.config)
  if (!settings) return STATUS_SETTINGS
  const roles = options.roles ?? ROLES.filter(role => role !== 'ca' || settings.ca.configured)
  const [only] = roles
  if (roles.length === 1 && only) return await serveRole(only, settings)
  return await serveRoles(roles, settings)
}

/** What a role finds in its state folder before it starts: only the proxy shows a host key. */
function prepared(name: RoleName, settings: Settings): Settings {
  return name === 'proxy' ? withHostKey(settings) : settings
}

async function serveRole(name: RoleName, written: Settings): Promise<number> {
  const secrets = new Set(secretsOf(written))
  const log = createLog(name, written.name, process.env, secrets)
  const told = untilToldToStop()
  // From the first moment: unheard, a SIGHUP ends the process.
  let hangups = 0
  let hungUp = () => {
    hangups++
  }
  process.on('SIGHUP', () => hungUp())
  let role: Role
  let settings: Settings
  let watch: Awaited<ReturnType<typeof observe>> | undefined
  try {
    const embedded = withEngines(prepared(name, written))
    settings = embedded.settings
    Object.assign(process.env, embedded.env)
    await prepareDatabase(name, settings, log)
    const { main } = await MAINS[name]()
    role = await main(settings, { log, trial: wantsEngines(written) })
    await role.ready
    const watched = settings.listen.metrics?.[name]
    watch = watched && (await observe(watched, role.observed))
  } catch (error) {
    log.fatal({ err: error }, `the role ${name} could not start`)
    await announceFailure(error instanceof Error ? error.message : String(error))
    return error instanceof MigrationError && error.code !== 'ERR_MIGRATION_FAILED' ? STATUS_SETTINGS : 1
  }
  let reloading = Promise.resolve()
  hungUp = () => {
    // One after the other: the file as it is last read is the one that holds.
    reloading = reloading.then(async () => {
      settings = (await reload(name, role, settings.file, log, secrets)) ?? settings
    })
  }
  if (hangups > 0) hungUp()
  const urls = { ...role.urls, ...(watch && { [`${name}-metrics`]: watch.url }) }
  log.info({ urls }, 'ready')
  announceReady(urls, { role: name })

  const why = await told
  hungUp = () => {}
  watch?.stopping()
  await reloading
  log.info({ why, drain: settings.limits.drain }, 'stopping')
  const late = setTimeout(() => {
    log.error('did not stop in time')
    process.exit(1)
  }, settings.limits.drain + CLOSE_MILLISECONDS)
  await role.close()
  watch?.close()
  clearTimeout(late)
  log.info('stopped')
  return 0
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

/** SIGHUP: a file that does not load, or that the role cannot take over, changes nothing. */
async function reload(
  name: RoleName,
  role: Role,
  file: string,
  log: Logger,
  secrets: Set<string>,
): Promise<Settings | undefined> {
  try {
    const { settings } = withEngines(prepared(name, loadSettings(file, process.env)))
    for (const secret of secretsOf(settings)) secrets.add(secret)
    await role.reload(settings)
    log.info({ file }, 'settings reloaded')
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
  return settings.limits.drain + 2 * CLOSE_MILLISECONDS
}

async function serveRoles(roles: readonly RoleName[], settings: Settings): Promise<number> {
  const supervised = superviseRoles(roles, settings)
  process.on('SIGHUP', () => supervised.hangup())
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
      options: { role: { type: 'string', multiple: true }, config: { type: 'string' } },
    })
    const roles = values.role && [...new Set(values.role)]
    const unknown = roles?.find(role => !isRole(role))
    if (unknown !== undefined) throw new Error(`${JSON.stringify(unknown)} is no role`)
    const config = values.config ?? process.env.DRAWBRIDGE_CONFIG ?? 'drawbridge.yaml'
    return await serve({ ...(roles && { roles: roles.filter(isRole) }), config })
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
