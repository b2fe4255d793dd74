import { existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stopMilliseconds, superviseRoles } from '../../cli/serve.ts'
import { loadSettings } from '../../config/load.ts'
import { holdFolder } from '../lock.ts'
import { untilToldToStop } from '../parent.ts'
import { writeCommands } from './bin.ts'
import { trialPeople } from './people.ts'
import { TRIAL_POLICY } from './policy.ts'
import { makeHello } from './repository.ts'
import { trialSettings } from './settings.ts'
import { welcome } from './welcome.ts'

/** `npm start`: the whole gate on this machine, below var/trial, with something to try. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const REPOSITORY = 'demo/hello'
/** `npm start -- --sign-in`: with an identity provider to sign in by. */
const SIGN_IN = '--sign-in'
const PORTS = { http: 8080, ssh: 2222, admin: 8081 }

function say(line: string): void {
  process.stderr.write(`drawbridge: ${line}\n`)
}

async function trial(folder: string): Promise<number> {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const readyFile = join(folder, 'ready.json')
  const logFile = join(folder, 'drawbridge.log')
  const release = await holdFolder(folder, 'trial')
  if (!release) {
    say(`already running here; what to try is in ${relative(process.cwd(), readyFile)}`)
    return 1
  }
  rmSync(readyFile, { force: true })

  const ports = await freePorts()
  const provider = process.argv.includes(SIGN_IN) ? await trialProvider(ports.admin) : undefined
  const upstream = join(folder, 'upstream')
  await makeHello(join(upstream, 'hello.git'))
  const settingsFile = join(folder, 'drawbridge.yaml')
  const passphrase = passphraseFile(folder)
  writeFileSync(settingsFile, trialSettings({ ports, upstream, passphrase, ...(provider && { provider }) }), {
    mode: 0o600,
  })
  const policyFile = join(folder, 'policy.yaml')
  if (!existsSync(policyFile)) writeFileSync(policyFile, TRIAL_POLICY, { mode: 0o600 })
  const settings = loadSettings(settingsFile, process.env)

  // The terminal closed, or npm was killed: nothing may stay behind.
  const told = Promise.race([
    untilToldToStop(),
    untilOrphaned(),
    new Promise(resolve => process.once('SIGHUP', resolve)),
  ])
  const supervised = superviseRoles(['proxy', 'admin', 'ca'], settings, openSync(logFile, 'w', 0o600))
  const outcome = await Promise.race([told.then(() => 'stop' as const), supervised.gaveUp, supervised.ready])
  if (typeof outcome === 'object') {
    const { http = '', ssh = '', admin = '', local = '' } = outcome
    const people = await trialPeople(local, folder, ssh)
    const ready = { http, ssh, admin, people, repository: REPOSITORY }
    writeFileSync(readyFile, `${JSON.stringify(ready, null, 2)}\n`, { mode: 0o600 })
    process.stdout.write(welcome(ready, writeCommands(folder, ready), provider !== undefined))
    const why = await Promise.race([told.then(() => undefined), supervised.gaveUp])
    if (why !== undefined) say(`${why}; stopping; more in ${relative(process.cwd(), logFile)}`)
  } else if (outcome !== 'stop') {
    say(
      `${outcome}; stopping; more in ${relative(process.cwd(), logFile)}; to begin anew remove ${relative(process.cwd(), folder)}`,
    )
  }
  rmSync(readyFile, { force: true })
  await supervised.stop(stopMilliseconds(settings))
  await provider?.close()
  release()
  return typeof outcome === 'object' || outcome === 'stop' ? 0 : 1
}

/** An identity provider whose people are those of the trial. It is loaded from the packages of the tests. */
async function trialProvider(admin: number) {
  const { CLIENT, startProvider } = await import('./provider.ts').catch(cause => {
    throw new Error(`${SIGN_IN} needs the packages of the tests: run npm ci`, { cause })
  })
  const provider = await startProvider(() => `http://127.0.0.1:${admin}`)
  provider.people
    .set('alice', {})
    .set('bob', { groups: ['leads'] })
    .set('carol', { groups: ['audit'] })
  return { issuer: provider.issuer, client: CLIENT, close: () => provider.close() }
}

/** The design's ports, or whichever are free. */
async function freePorts(): Promise<typeof PORTS> {
  const ports = { ...PORTS }
  for (const name of ['http', 'ssh', 'admin'] as const) {
    const port = (await isFree(PORTS[name])) ?? (await isFree(0)) ?? 0
    if (port !== PORTS[name]) say(`port ${PORTS[name]} is taken; ${name} is on ${port}`)
    ports[name] = port
  }
  return ports
}

function isFree(port: number): Promise<number | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? address?.port : undefined))
    })
  })
}

function passphraseFile(folder: string): string {
  const file = join(folder, 'ca-passphrase')
  if (!existsSync(file)) {
    const passphrase = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url')
    writeFileSync(file, `${passphrase}\n`, { mode: 0o600 })
  }
  return file
}

const PARENT_MILLISECONDS = 1_000

/** Resolves when whoever started us is gone (kill -9 tells nobody). */
function untilOrphaned(): Promise<void> {
  const parent = process.ppid
  return new Promise(resolve => {
    const timer = setInterval(() => {
      if (process.ppid === parent) return
      clearInterval(timer)
      resolve()
    }, PARENT_MILLISECONDS)
    timer.unref()
  })
}

try {
  process.exit(await trial(process.env.DRAWBRIDGE_TRIAL ?? join(ROOT, 'var', 'trial')))
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exit(1)
}
