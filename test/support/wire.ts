import { spawn } from 'node:child_process'
import { type IncomingHttpHeaders, request } from 'node:http'
import { FLUSH, packet } from '../../proxy/git/pktline.ts'
import { gitEnvironment, gitOk } from './git.ts'
import { sshOptions } from './sshd.ts'
import type { Stand, StartedProxy } from './stand.ts'

// Hand-made bytes for a gate: what no stock git would send.

export const ZERO = '0'.repeat(40)

export interface Asked {
  readonly old: string
  readonly new: string
  readonly ref: string
}

const PUSH_CAPABILITIES = 'report-status side-band-64k agent=hand/1'

/** The command section of a push, capabilities on the first line. */
export function commandSection(updates: readonly Asked[], capabilities = PUSH_CAPABILITIES): Buffer {
  return Buffer.concat([...updates.map((each, n) => command(each, n === 0 ? capabilities : undefined)), FLUSH])
}

export function command({ old, new: now, ref }: Asked, capabilities?: string): Buffer {
  return packet(Buffer.from(`${old} ${now} ${ref}${capabilities === undefined ? '' : `\0 ${capabilities}`}`))
}

/** A pack of all that `revisions` reach (`main`, `^topic`), made by git in `cwd`. */
export function packOf(cwd: string, revisions: readonly string[], options: readonly string[] = []): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn('git', ['pack-objects', '--revs', '--stdout', '-q', ...options], { cwd, env: gitEnvironment() })
    const parts: Buffer[] = []
    child.stdout.on('data', part => parts.push(part))
    child.on('error', reject)
    child.on('close', status =>
      status === 0 ? resolve(Buffer.concat(parts)) : reject(new Error(`git pack-objects ended with ${status}`)),
    )
    child.stdin.end(`${revisions.join('\n')}\n`)
  })
}

export interface Answered {
  /** HTTP's status, or ssh's exit status. */
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** All of it that a person could read. */
  readonly text: string
}

export interface Post {
  readonly body: Buffer | readonly Buffer[]
  readonly protocol?: 0 | 1 | 2
  readonly headers?: Readonly<Record<string, string>>
  readonly token?: string
  /** Send at most so many bytes in one write. */
  readonly segments?: number
  /** Waited for before the end of the request. */
  readonly pause?: () => Promise<void>
  /** Waited for behind each part of `body`. */
  readonly between?: () => Promise<void>
}

/** POSTs bytes to a service of a repository; never through an agent, so that no connection is shared. */
export async function post(
  stand: Stand,
  service: 'git-upload-pack' | 'git-receive-pack',
  repository: string,
  { body, protocol = 0, headers = {}, token, segments, pause, between }: Post,
  proxy: StartedProxy = stand.proxies[0]!,
): Promise<Answered> {
  const bearer = token ?? (await stand.token('alice'))
  const url = new URL(`${proxy.urls.http}/${repository}.git/${service}`)
  return answered(
    url,
    'POST',
    body,
    { segments, pause, between },
    {
      authorization: `Bearer ${bearer}`,
      'content-type': `application/x-${service}-request`,
      ...(protocol > 0 && { 'git-protocol': `version=${protocol}` }),
      ...headers,
    },
  )
}

/** GETs any path of a proxy as alice. */
export async function get(
  stand: Stand,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answered> {
  const authorization = `Bearer ${await stand.token('alice')}`
  return answered(
    new URL(`${stand.proxies[0]!.urls.http}${path}`),
    'GET',
    [],
    {},
    {
      authorization,
      ...headers,
    },
  )
}

function answered(
  url: URL,
  method: string,
  body: Buffer | readonly Buffer[],
  manner: Manner,
  headers: Record<string, string>,
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, agent: false, headers }, response => {
      const parts: Buffer[] = []
      response.on('data', part => parts.push(part))
      const done = () => {
        const whole = Buffer.concat(parts)
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole, text: whole.toString() })
      }
      response.on('end', done).on('error', done)
    })
    asked.setNoDelay(true)
    asked.on('error', reject)
    void send(asked, body, manner)
  })
}

/** Runs a command over stock ssh as alice and sends it bytes after what it says first up to a flush packet. */
export async function overSsh(
  stand: Stand,
  commandLine: string,
  {
    body,
    protocol = 0,
    segments,
    pause,
    between,
    andThen,
  }: {
    readonly body: Buffer | readonly Buffer[]
    readonly protocol?: 0 | 1 | 2
    readonly segments?: number
    readonly pause?: () => Promise<void>
    readonly between?: () => Promise<void>
    /** Asked for more to say once the answer to `body` has come. */
    readonly andThen?: () => Promise<Buffer>
  },
  proxy: StartedProxy = stand.proxies[0]!,
): Promise<Answered> {
  const { port, hostname } = new URL(proxy.urls.ssh!)
  const version = protocol > 0 ? ['-o', 'SendEnv=GIT_PROTOCOL'] : []
  const args = [...sshOptions({ key: stand.key.path, extra: version }), '-p', port, `git@${hostname}`, commandLine]
  const child = spawn('ssh', args, {
    env: gitEnvironment(protocol > 0 ? { GIT_PROTOCOL: `version=${protocol}` } : {}),
    timeout: 50_000,
  })
  const parts: Buffer[] = []
  const said: Buffer[] = []
  let heard = 0
  child.stdin.on('error', () => {})
  child.stderr.on('data', part => said.push(part))
  child.stdout.on('data', part => {
    parts.push(part)
    if (heard > 1 || !Buffer.concat(parts).toString('latin1').endsWith('0000')) return
    heard++
    if (heard === 1) {
      parts.length = 0
      if (andThen) child.stdin.write(Buffer.isBuffer(body) ? body : Buffer.concat(body))
      else void send(child.stdin, body, { segments, pause, between })
    } else void andThen?.().then(more => child.stdin.end(more))
  })
  const status = await new Promise<number>(resolve => child.on('close', code => resolve(code ?? 255)))
  const whole = Buffer.concat(parts)
  return { status, headers: {}, body: whole, text: whole.toString() + Buffer.concat(said).toString() }
}

interface Manner {
  readonly segments?: number | undefined
  readonly pause?: (() => Promise<void>) | undefined
  readonly between?: (() => Promise<void>) | undefined
}

async function send(
  to: NodeJS.WritableStream,
  body: Buffer | readonly Buffer[],
  { segments, pause, between }: Manner,
): Promise<void> {
  for (const part of Buffer.isBuffer(body) ? [body] : body) {
    for (let at = 0; at < part.length; at += segments ?? part.length) {
      if (!to.write(part.subarray(at, at + (segments ?? part.length)))) {
        await drained(to)
      }
      if (segments) await new Promise(resolve => setImmediate(resolve))
    }
    await between?.()
  }
  await pause?.()
  to.end()
}

function drained(to: NodeJS.WritableStream): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      to.off('drain', done).off('close', done)
      resolve()
    }
    to.on('drain', done).on('close', done)
  })
}

/** The operation a person was told, which finds its record. */
export function operationIn(text: string): string {
  const found = /\(operation (op-[A-Za-z0-9_-]+)\)/.exec(text)?.[1]
  if (!found) throw new Error(`no operation is named in: ${text}`)
  return found
}

/** Whether the last commit of `cwd` is there, in a word. */
export function head(cwd: string): Promise<string> {
  return gitOk(['rev-parse', 'HEAD'], { cwd })
}
