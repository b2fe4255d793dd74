import { createInterface } from 'node:readline/promises'
import { type Command, Option } from 'commander'
import type { Client } from '../client.ts'
import { type Common, several } from '../command.ts'
import { CommandError, EXIT } from '../say.ts'

/** What somebody types who asks for a window. */
export interface Wish extends Common {
  readonly push?: boolean
  readonly fetch?: boolean
  readonly force?: boolean
  readonly delete?: boolean
  readonly tag?: boolean
  readonly archive?: boolean
  readonly action?: string[]
  readonly ref?: string[]
  readonly for?: string
  readonly until?: string
  readonly from?: string
  readonly reason?: string
  readonly ticket?: string
  readonly breakGlass?: boolean
  readonly recurring?: boolean
}

/** The options that say what is asked for. */
export function wishing(command: Command): Command {
  return command
    .argument('[repository]', '<upstream>/<path>, without .git; * within a part, ** across parts')
    .option('--push', 'create and update branches; with tags named by --ref, create those')
    .option('--fetch', 'clone and fetch')
    .option('--force', 'move branches that are no fast-forward')
    .option('--delete', 'delete branches')
    .option('--tag', 'create tags')
    .option('--archive', 'git archive --remote')
    .addOption(
      new Option('--action <action>', 'the actions by their own names; several with commas').argParser(several),
    )
    .addOption(
      new Option('--ref <pattern>', 'main, "release/*", "refs/tags/v*"; every branch and tag, if left out').argParser(
        several,
      ),
    )
    .option('--for <duration>', 'how long: 30m, 2h, "2 hours"; the usual length, if left out')
    .option('--until <time>', 'when it ends, instead of --for: 2026-01-31T18:00:00Z')
    .option('--from <time>', 'when it begins; at the approval, if left out')
    .option('--reason <text>', 'why')
    .option('--ticket <id>', 'what it belongs to')
    .option('--break-glass', 'at once, where the policy allows it; it is reviewed afterwards')
    .option('--recurring', 'each time that the hours come which the policy names, for so long ahead')
}

/** What the options leave open is asked of the person, where one sits there; then as `bodyOf`. */
export async function completeBody(repository: string | undefined, wish: Wish): Promise<object> {
  if (!process.stdin.isTTY) return bodyOf(repository, wish)
  const named = repository ?? (await ask('repository, as <upstream>/<path>: '))
  if (actionsOf(wish).size > 0) return bodyOf(named, wish)
  const what = await ask('what for, of push fetch force delete tag archive [push]: ')
  const wanted = what === '' ? ['push'] : what.split(/[\s,]+/)
  const unknown = wanted.find(word => !ASKABLE.has(word))
  if (unknown !== undefined) throw new CommandError(EXIT.usage, `${JSON.stringify(unknown)} is nothing to ask for`)
  const ref = wish.ref ?? several(await ask('branch or pattern [every branch and tag]: '))
  const length = wish.for ?? ((wish.until === undefined && (await ask('for how long [the usual]: '))) || undefined)
  const asked = Object.fromEntries(wanted.map(word => [word, true]))
  return bodyOf(named, { ...wish, ...asked, ref, ...(length !== undefined && { for: length }) })
}

const ASKABLE: ReadonlySet<string> = new Set(['push', 'fetch', 'force', 'delete', 'tag', 'archive'])

/** The same as the gate wants it. */
export function bodyOf(repository: string | undefined, wish: Wish): object {
  if (repository === undefined) throw new CommandError(EXIT.usage, 'which repository', 'name it: <upstream>/<path>')
  const actions = actionsOf(wish)
  if (actions.size === 0) {
    throw new CommandError(EXIT.usage, 'what for', 'say --push, --fetch, --force, --delete, --tag or --archive')
  }
  return {
    repository: repository.replace(/\.git$/, ''),
    actions: [...actions],
    refs: wish.ref ?? [],
    for: wish.for,
    expires_at: wish.until,
    starts_at: wish.from,
    reason: wish.reason,
    ticket: wish.ticket,
    break_glass: wish.breakGlass,
    recurring: wish.recurring,
  }
}

function actionsOf(wish: Wish): ReadonlySet<string> {
  const refs = wish.ref ?? []
  const isTag = (ref: string) => ref.startsWith('refs/tags/')
  const actions = new Set(wish.action ?? [])
  if (wish.fetch) actions.add('fetch')
  if (wish.push && (refs.length === 0 || !refs.every(isTag))) actions.add('create').add('update')
  if (wish.push && refs.some(isTag)) actions.add('tag')
  if (wish.force) actions.add('force')
  if (wish.delete) actions.add('delete')
  if (wish.tag) actions.add('tag')
  if (wish.archive) actions.add('archive')
  return actions
}

const ASKED_FOR: Readonly<Record<string, 'reason' | 'ticket'>> = {
  'policy-reason': 'reason',
  'policy-ticket': 'ticket',
}

/** Sends the wish. What the policy wants besides is asked of the person, where one sits there. */
export async function sendWish<T>(client: Client, path: string, body: object): Promise<T> {
  try {
    return await client.call<T>('POST', path, body)
  } catch (error) {
    const field = error instanceof CommandError ? ASKED_FOR[error.code ?? ''] : undefined
    if (field === undefined || Reflect.get(body, field) !== undefined || !process.stdin.isTTY) throw error
    const answer = await ask(`${(error as CommandError).message}\n${field}: `)
    if (answer === '') throw error
    return await sendWish(client, path, { ...body, [field]: answer })
  }
}

async function ask(prompt: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return (await terminal.question(prompt)).trim()
  } finally {
    terminal.close()
  }
}
