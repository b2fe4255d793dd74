import { spawn } from 'node:child_process'
import { hostname } from 'node:os'
import type { Command } from 'commander'
import { type Client, createClient } from '../client.ts'
import { asking, type Common } from '../command.ts'
import { forget, type KeptSignin, keep, keptSignin } from '../kept.ts'
import { CommandError, EXIT, hint, json, say, when } from '../say.ts'
import { freshKey, removeKey } from './agent.ts'

interface Device {
  readonly device_code: string
  readonly user_code: string
  readonly verification_uri: string
  readonly verification_uri_complete: string
  readonly expires_in: number
}

interface Done {
  readonly token: string
  readonly token_expires_at: string
  readonly secret: string
  readonly signin: { readonly id: string; readonly principal: string; readonly expires_at: string }
}

type Answer =
  | { readonly state: 'waiting' | 'over' }
  | { readonly state: 'denied'; readonly reason: string }
  | ({ readonly state: 'done' } & Done)

/** `git access login` */
export function loginCommand(): Command {
  return asking('login', "sign in with your company's identity provider")
    .option('--device', 'open no browser here; show where to go on any machine')
    .option('--mfa', 'have the provider ask again, with a second factor')
    .action(async (options: Common & { device?: boolean; mfa?: boolean }) => {
      const gate = options.url?.replace(/\/+$/, '') ?? keptSignin(process.env)?.gate
      if (gate === undefined) {
        throw new CommandError(EXIT.usage, 'sign in where?', 'git access login --url https://… (or set DRAWBRIDGE_URL)')
      }
      const client = createClient({ ...options, url: gate }, process.env, 'stranger')
      const places = await client.call<{ http?: string; ssh?: string }>('GET', '/login')
      const device = await client.call<Device>('POST', '/login/device', {
        client: `git access on ${hostname()}`.slice(0, 100),
        fresh: options.mfa === true,
      })
      const browser = options.device ? undefined : browserOf(process.env)
      say(`to sign in, open ${browser ? device.verification_uri_complete : device.verification_uri}`)
      say(`the code is ${device.user_code}`)
      if (browser) open(browser, device.verification_uri_complete)
      const done = await collected(client, device)
      const kept: KeptSignin = {
        gate,
        ...(places.http !== undefined && { http: places.http }),
        ...(places.ssh !== undefined && { ssh: places.ssh }),
        ...(options.caFile !== undefined && { caFile: options.caFile }),
        signin: done.signin.id,
        principal: done.signin.principal,
        secret: done.secret,
        expires: done.signin.expires_at,
        token: done.token,
        tokenExpires: done.token_expires_at,
      }
      keep(process.env, kept)
      if (options.json) json(done.signin)
      say(`you are ${kept.principal} until ${when(kept.expires)}`)
      await certify(kept)
    })
}

/** Waits for the browser; each answer takes some seconds by itself. */
async function collected(client: Client, device: Device): Promise<Done> {
  const until = performance.now() + device.expires_in * 1_000
  while (performance.now() < until) {
    const answer = await client.call<Answer>('POST', '/login/token', { device_code: device.device_code })
    if (answer.state === 'done') return answer
    if (answer.state === 'denied') throw new CommandError(EXIT.denied, `nobody was signed in: ${answer.reason}`)
    if (answer.state === 'over') break
    // Answered at once when too many wait.
    await new Promise(resolve => setTimeout(resolve, 200))
  }
  throw new CommandError(EXIT.failed, 'nobody came to the browser in time', 'git access login')
}

/** A fresh key with a certificate, for ssh. Without it everything else works. */
async function certify(kept: KeptSignin): Promise<void> {
  const key = freshKey(process.env)
  if (key === undefined) return say('there is no ssh-keygen here, so no key for ssh; git over HTTPS works')
  try {
    const client = createClient({ url: kept.gate, caFile: kept.caFile }, withoutToken(process.env))
    const issued = await client.call<{ certificate: string; serial: string; expires_at: string }>(
      'POST',
      '/certificates',
      {
        public_key: key.publicKey,
      },
    )
    const file = key.install(issued.certificate, new Date(issued.expires_at))
    if (file === undefined) return say(`a key with certificate ${issued.serial} is in your ssh-agent`)
    say(`there is no ssh-agent, so the key with certificate ${issued.serial} is ${file}`)
    hint(`in ~/.ssh/config, for the gate: IdentityFile ${file}`)
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    if (error.code !== 'no-authority') say(`no certificate for ssh: ${error.message}`)
  } finally {
    key.discard()
  }
}

/** `git access logout` */
export function logoutCommand(): Command {
  return asking('logout', 'end the sign-in: its token, key and certificate are refused from now on').action(
    async (options: Common) => {
      const kept = keptSignin(process.env, options.url)
      if (kept === undefined) return say('nobody is signed in here')
      const client = createClient(
        { ...options, url: kept.gate, caFile: options.caFile ?? kept.caFile },
        process.env,
        'stranger',
      )
      // Told first: what is only forgotten here would still be good elsewhere.
      await client.call('POST', '/logout', { secret: kept.secret }).catch((error: unknown) => {
        if (!(error instanceof CommandError) || error.code !== 'signed-out') throw error
      })
      forget(process.env, kept.gate)
      removeKey(process.env)
      say(`${kept.principal} is signed out`)
    },
  )
}

/** The certificate is for who just signed in, whatever token the environment holds. */
function withoutToken(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { DRAWBRIDGE_TOKEN: _, ...rest } = env
  return rest
}

/** What opens a browser on this machine, where one can be seen. */
function browserOf(env: NodeJS.ProcessEnv): string | undefined {
  if (env.BROWSER) return env.BROWSER
  if (process.platform === 'darwin') return 'open'
  return env.DISPLAY || env.WAYLAND_DISPLAY ? 'xdg-open' : undefined
}

function open(browser: string, url: string): void {
  const child = spawn(browser, [url], { stdio: 'ignore', detached: true })
  child.on('error', () => hint('no browser could be opened; open the address by hand'))
  child.unref()
}
