import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Client } from '../client.ts'
import { type Common, gate } from '../command.ts'
import { plain } from '../say.ts'
import { pathOf, type Request, sayOutcome, untilDecided } from './request.ts'
import { type Aim, bodyOf, sendWish, type Wish } from './wish.ts'

/**
 * `git access run -- git push`: runs a command, and where the gate refuses it for want of a window asks for exactly what the
 * refusal named, waits until that is decided, and runs the command again. Ctrl-C leaves the request standing.
 */

/** A clone of a repository with submodules is refused for each of them; beyond this something else is wrong. */
const ASKED_MAX = 8
const SAID_CHARACTERS_KEPT = 64 << 10

export interface RunOptions extends Common {
  readonly for?: string
  readonly reason?: string
  readonly ticket?: string
}

/** @returns the exit status of the command, or 1 when what it needs was refused */
export async function run(command: readonly string[], options: RunOptions): Promise<number> {
  const asked = new Set<string>()
  for (;;) {
    const { status, said } = await attempt(command)
    const line = status === 0 ? undefined : (filedIn(said) ?? askedIn(said))
    // The same line again: what was approved is not what is missing.
    if (line === undefined || asked.has(line.text) || asked.size === ASKED_MAX) return status
    asked.add(line.text)
    const client = gate(options)
    let request = 'id' in line ? await filed(client, line.id, options) : await ask(client, line, options)
    if (request.state === 'requested') request = await waiting(request, untilDecided(client, request.id))
    sayOutcome(request)
    if (request.state !== 'approved') return 1
  }
}

async function ask(client: Client, { aim, length }: AskedLine, options: RunOptions): Promise<Request> {
  return await sendWish<Request>(client, '/requests', bodyOf([aim], { ...length, ...besides(options) }))
}

/** The request that the gate filed by itself; with what was said here besides, it is asked for anew. */
async function filed(client: Client, id: string, options: RunOptions): Promise<Request> {
  const request = await client.call<Request>('GET', pathOf(id))
  const more = besides(options)
  if (request.state !== 'requested' || Object.keys(more).length === 0) return request
  const [first, ...also] = request.targets
  return await sendWish<Request>(client, '/requests', { ...first, also, ...more })
}

function besides({ for: length, reason, ticket }: RunOptions): Pick<Wish, 'for' | 'reason' | 'ticket'> {
  return {
    ...(length !== undefined && { for: length }),
    ...(reason !== undefined && { reason }),
    ...(ticket !== undefined && { ticket }),
  }
}

/** Runs the command once. Its stderr is shown as it comes, and kept to be looked at. */
function attempt([file = '', ...args]: readonly string[]): Promise<{ readonly status: number; readonly said: string }> {
  const child = spawn(file, args, { stdio: ['inherit', 'inherit', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    process.stderr.write(chunk)
    said = (said + chunk.toString('utf8')).slice(-SAID_CHARACTERS_KEPT)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) =>
      resolve({ status: code ?? 128 + (signal ? constants.signals[signal] : 0), said }),
    )
  })
}

// As the gate writes it, and nothing more: a Git host may say something like it, and is not to have other words typed here.
const ASK =
  /^(?:remote: )?ask with: git access request (\S+)((?: --(?:push|fetch|archive|delete|tag|force)| --ref [A-Za-z0-9._/@+-]+| --for \w+)+) *$/gm

const FILED = /^(?:remote: )?asked for: (r-[0-9a-z]{1,40}) waits for /gm

/** The request that the gate filed when it refused, where the policy says so. */
function filedIn(said: string): { readonly text: string; readonly id: string } | undefined {
  const [text, id] = [...said.replaceAll('\r', '\n').matchAll(FILED)].at(-1) ?? []
  return text === undefined || id === undefined ? undefined : { text, id }
}

interface AskedLine {
  readonly text: string
  readonly aim: Aim
  readonly length: Pick<Wish, 'for'>
}

/** What the last refusal says is to be asked for. */
export function askedIn(said: string): AskedLine | undefined {
  const [text, repository, rest] = [...said.replaceAll('\r', '\n').matchAll(ASK)].at(-1) ?? []
  if (text === undefined || repository === undefined || rest === undefined) return undefined
  const words = rest.trim().split(/ +/)
  const given = (option: string) => words.flatMap((word, at) => (word === option ? (words[at + 1] ?? []) : []))
  const flags = ['push', 'fetch', 'archive', 'delete', 'tag', 'force'].filter(flag => words.includes(`--${flag}`))
  const [length] = given('--for')
  const aim = {
    repositories: [repository],
    ...Object.fromEntries(flags.map(flag => [flag, true])),
    ref: given('--ref'),
  }
  return { text, aim, length: length === undefined ? {} : { for: length } }
}

const PROGRESS_MILLISECONDS = 1_000

/** Says who is being asked; at a terminal with the time that is left. */
async function waiting(request: Request, decided: Promise<Request>): Promise<Request> {
  sayOutcome(request)
  if (!process.stderr.isTTY) return await decided
  const show = () => {
    const left = Math.max(0, Math.round((Date.parse(request.lapses_at) - Date.now()) / 1000))
    const clock = [left / 3600, (left / 60) % 60, left % 60].map(part => String(Math.floor(part)).padStart(2, '0'))
    const line = `waiting for ${request.waiting_for ?? 'approval'}, ${clock.join(':')} left; Ctrl-C leaves it standing`
    process.stderr.write(`\r\u001b[Kdrawbridge: ${plain(line)}`)
  }
  show()
  const timer = setInterval(show, PROGRESS_MILLISECONDS)
  try {
    return await decided
  } finally {
    clearInterval(timer)
    process.stderr.write('\r\u001b[K')
  }
}
