import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { main as admin, type Role } from '../../admin/main.ts'
import type { LoginSettings } from '../../config/settings.ts'
import { CLIENT, startProvider, type TestProvider } from '../../deploy/trial/provider.ts'
import { type Agent, startAgent } from '../support/agent.ts'
import { type RunningAuthority, startAuthority } from '../support/authority.ts'
import { makeRepository } from '../support/git.ts'
import { type Key, makeKey } from '../support/keys.ts'
import { startProgram, temporaryFolder, until } from '../support/program.ts'
import { sshCommand } from '../support/sshd.ts'
import { quiet, type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { UNDERWAY_BYTES, underway } from '../support/underway.ts'
import { createWalker, throughProvider } from '../support/walker.ts'

// A fresh machine: sign in, then clone over HTTPS with nothing typed, over SSH with the certificate in the agent, and over SSH
// with a key nobody has ever seen.

const ROOT = new URL('../..', import.meta.url).pathname
const run = promisify(execFile)

let provider: TestProvider
let authority: RunningAuthority
let stand: Stand
let proxy: StartedProxy
let control: Role
let agent: Agent
let home: string
let env: NodeJS.ProcessEnv

beforeAll(async () => {
  provider = await startProvider(() => control.urls.admin ?? '')
  provider.people.set('alice', { groups: ['payments'] })
  provider.people.set('bob', {})
  const login: LoginSettings = {
    issuer: provider.issuer,
    clientId: CLIENT.id,
    clientSecret: CLIENT.secret,
    scopes: ['openid', 'profile'],
    principal: 'preferred_username',
    groups: 'groups',
    domains: [],
    require: new Map(),
    roles: new Map(),
    mfa: { amr: [], acr: [], required: false },
    lasts: 3_600_000,
    token: 120_000,
  }
  authority = await startAuthority()
  const to = { url: '', tokenFile: join(temporaryFolder('front'), 'token') }
  stand = await startStand({ proxies: 0, change: { ca: authority.settings, login, control: to } })
  proxy = await stand.startProxy()
  const { http: publicHttp, ssh: publicSsh } = proxy.urls
  control = await admin({ ...stand.settings, name: 'control', publicHttp, publicSsh }, { log: quiet })
  to.url = control.urls.admin ?? ''
  // As after a restart of Redis: everything is told anew, the control plane's own token key too.
  await stand.store.doubt()
  await until(() => stand.store.confirmed())
  const front = ['token', 'create', '--url', control.urls.local ?? '', '--principal', 'service:gate', '--role', 'front']
  const made = await run(process.execPath, [join(ROOT, 'cli/drawbridge.ts'), ...front])
  writeFileSync(to.tokenFile, made.stdout, { mode: 0o600 })
  agent = await startAgent()
  home = temporaryFolder('home')
  const { PATH } = process.env
  env = { PATH, HOME: home, SSH_AUTH_SOCK: agent.socket, DRAWBRIDGE_URL: to.url, GIT_TERMINAL_PROMPT: '0' }
  await makeRepository(join(stand.folder, 'acme/app.git'))
  await makeRepository(join(stand.folder, 'acme/large.git'), { bytes: UNDERWAY_BYTES })
  await stand.grant({ repository: 'local/acme/large' })
  await stand.grant({ repository: 'local/acme/app' })
  await stand.grant({ repository: 'web/acme/app' })
}, 120_000)

afterAll(async () => {
  await agent?.stop()
  await control?.close()
  await stand?.close()
  await authority?.close()
  await provider?.close()
})

const program = (name: string, ...args: string[]) =>
  run(process.execPath, [join(ROOT, `cli/${name}.ts`), ...args], { env }).catch((error: unknown) => error as never)
const git = (...args: string[]) => run('git', args, { env, cwd: temporaryFolder('clone') })

async function untilSaid(said: () => string, pattern: RegExp): Promise<string> {
  await until(() => pattern.test(said()), `${pattern} to be said`)
  return pattern.exec(said())?.[1] ?? ''
}

describe('git access on a fresh machine', () => {
  test('login goes through a real browser, with the terminal’s code on the page that asks', async () => {
    const terminal = await startProgram(process.execPath, [join(ROOT, 'cli/git-access.ts'), 'login', '--device'], {
      env,
    })
    const code = await untilSaid(terminal.output, /the code is (\S+)/)
    const address = await untilSaid(terminal.output, /open (\S+)/)
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update'],
    })
    try {
      const page = await browser.newPage()
      await page.goto(address)
      await page.fill('input[name=code]', code.toLowerCase())
      await page.click('button')
      await page.fill('input[name=login]', 'alice')
      await page.click('button')
      await page.waitForURL('**/login/confirm')
      expect(await page.textContent('b.code')).toBe(code)
      await page.click('button.yes')
      await page.waitForSelector('text=You are signed in')
    } finally {
      await browser.close()
    }
    expect([await terminal.ended, terminal.output()]).toEqual([0, expect.stringContaining('you are alice until')])
    expect(terminal.output()).toMatch(/a key with certificate \d+ is in your ssh-agent/)
    expect((await run('ssh-add', ['-l'], { env })).stdout).toContain('ED25519-CERT')
    const file = join(home, '.local/state/drawbridge/signins.json')
    expect(statSync(file).mode & 0o777).toBe(0o600)
  }, 60_000)

  test('whoami and the API go by the sign-in, with no token handed out', async () => {
    expect((await program('git-access', 'whoami', '--json')).stdout).toContain('"principal":"alice"')
  })

  test('setup shows what it would change, changes it once, and existing remotes clone over HTTPS with nothing typed', async () => {
    writeFileSync(join(home, '.gitconfig'), '[user]\n\tname = Alice\n')
    mkdirSync(join(home, '.ssh'), { mode: 0o700 })
    writeFileSync(join(home, '.ssh/known_hosts'), 'other.example ssh-ed25519 AAAA\n')
    const before = ['.gitconfig', '.ssh/known_hosts'].map(file => readFileSync(join(home, file), 'utf8'))
    const now = () => ['.gitconfig', '.ssh/known_hosts'].map(file => readFileSync(join(home, file), 'utf8'))

    const dry = await program('git-access', 'setup', '--dry-run')
    expect(dry.stdout).toContain(`url.${proxy.urls.http}/web/.insteadOf=${stand.nginx.url}`)
    expect(dry.stdout).toContain('@cert-authority')
    expect(now()).toEqual(before)

    await program('git-access', 'setup')
    const after = now()
    expect((await program('git-access', 'setup')).stderr).toContain('nothing to change')
    expect(now()).toEqual(after)
    await git('clone', `${stand.nginx.url}acme/app.git`)

    await program('git-access', 'setup', '--undo')
    expect(now()).toEqual(before)
    await program('git-access', 'setup')
  })

  test('a token that is about to end is renewed by the helper, and git is told how long it is good', async () => {
    const file = join(home, '.local/state/drawbridge/signins.json')
    const kept = JSON.parse(readFileSync(file, 'utf8'))
    const [signin] = kept.signins
    writeFileSync(
      file,
      JSON.stringify({ ...kept, signins: [{ ...signin, token: 'old', tokenExpires: new Date(Date.now() + 5_000) }] }),
    )
    await git('ls-remote', `${stand.nginx.url}acme/app.git`)
    expect(JSON.parse(readFileSync(file, 'utf8')).signins[0].token).not.toBe('old')
  })

  test('the certificate in the agent clones over SSH, and the host is known by its authority', async () => {
    const known = `-o UserKnownHostsFile=${home}/.ssh/known_hosts -o StrictHostKeyChecking=yes`
    const ssh = { ...env, GIT_SSH_COMMAND: `ssh -F none -o BatchMode=yes ${known}` }
    await run('git', ['clone', `${proxy.urls.ssh}/local/acme/app.git`], { env: ssh, cwd: temporaryFolder('clone') })
  })

  test('logout ends it everywhere: what runs, agent, token, API and the next clone', async () => {
    const { signins } = JSON.parse(readFileSync(join(home, '.local/state/drawbridge/signins.json'), 'utf8'))
    const byToken: Stand = {
      ...stand,
      remote: async (_transport, repository) => {
        const url = new URL(`${proxy.urls.http}/${repository}.git`)
        url.username = 'alice'
        url.password = signins[0].token
        return { url: url.href, env: {} }
      },
    }
    const clone = await underway(byToken, { what: 'clone', transport: 'http', repository: 'local/acme/large' })
    expect((await program('git-access', 'logout')).stderr).toContain('alice is signed out')
    expect(await clone.end()).toMatchObject({ result: 'cut' })
    expect((await clone.finish()).status).not.toBe(0)
    await clone.line.stop()
    await expect(run('ssh-add', ['-l'], { env })).rejects.toMatchObject({
      stdout: expect.stringContaining('no identities'),
    })
    await expect(git('ls-remote', `${stand.nginx.url}acme/app.git`)).rejects.toMatchObject({
      stderr: expect.stringContaining('git access login'),
    })
    expect((await program('git-access', 'whoami')).stderr).toContain('nobody is signed in')
  })
})

describe('stock ssh with a key nobody has seen', () => {
  const quote = (text: string) => `'${text}'`
  /** A real terminal: `script` gives ssh a pty, as a person's would. */
  const inTerminal = (key: Key, ...command: string[]) => {
    const { hostname, port } = new URL(proxy.urls.ssh ?? '')
    const known = '-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no'
    const ssh = `ssh -F none -a -o IdentitiesOnly=yes ${known} -i ${key.path} -p ${port} git@${hostname} ${command.map(quote).join(' ')}`
    return startProgram('script', ['-qec', ssh, '/dev/null'], { env: { ...env, SSH_AUTH_SOCK: '' } })
  }

  test('shows address and code, waits for the browser, and goes on with the very same command', async () => {
    const key = await makeKey('unseen')
    const terminal = await inTerminal(key, 'whoami')
    const address = await untilSaid(terminal.output, /(http:\S+\/login\?code=\S+)/)
    const walker = createWalker()
    const asked = await throughProvider(walker, address, 'alice')
    expect(asked.text).toContain(key.fingerprint)
    await walker.go(asked.form?.action ?? '', { ...asked.form?.fields, answer: 'allow' })
    await terminal.closed
    expect(terminal.output()).toContain(`alice, by key ${key.fingerprint}`)

    // From now on it is known, and `cert` signs it.
    const again = await inTerminal(key, 'cert')
    await again.closed
    expect(again.output()).toContain('ssh-ed25519-cert-v01@openssh.com AAAA')

    // Signed in anew by the same key, which goes over to the new sign-in; nobody else can take it over by the code.
    for (const [person, said] of [
      ['bob', 'nothing came of it'],
      ['alice', 'signed in as alice until 2'],
    ] as const) {
      const anew = await inTerminal(key, 'login', '--mfa')
      const confirming = createWalker()
      const at = await untilSaid(anew.output, /You are alice\. To sign in, open\s+(http:\S+\/login\?code=\S+)/)
      const page = await throughProvider(confirming, at, person)
      await confirming.go(page.form?.action ?? '', { ...page.form?.fields, answer: 'allow' })
      await anew.closed
      expect(anew.output()).toContain(said)
    }

    // Its end is the end of the sign-in.
    const [row] = await stand.sql<
      { id: string }[]
    >`select id from control.signin where ended is null order by id desc limit 1`
    await run(
      process.execPath,
      [join(ROOT, 'cli/drawbridge.ts'), 'signin', 'end', row?.id ?? '', '--url', control.urls.local ?? ''],
      { env },
    )
    const refused = await inTerminal(key, 'whoami')
    await untilSaid(refused.output, /This key is new here/)
    await refused.stop()
  }, 60_000)

  test('does nothing for who cannot be asked: BatchMode is refused, and a known key behind an unknown one is taken', async () => {
    const unseen = await makeKey('unseen-too')
    const { hostname, port } = new URL(proxy.urls.ssh ?? '')
    const both = sshCommand({ key: unseen.path }).split(' ').slice(1)
    const ask = (...more: string[]) => run('ssh', [...both, ...more, '-p', port, `git@${hostname}`, 'whoami'], { env })
    await expect(ask()).rejects.toMatchObject({ stderr: expect.stringContaining('Permission denied') })
    expect((await ask('-i', stand.key.path)).stdout).toContain('alice')
    const login = run('ssh', [...both, '-i', stand.key.path, '-p', port, `git@${hostname}`, 'login'], { env })
    await expect(login).rejects.toMatchObject({ stderr: expect.stringContaining('this key is registered as yours') })
  })
})
