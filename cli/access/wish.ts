import { createInterface } from 'node:readline/promises'
import { type Command, Option } from 'commander'
import type { Client } from '../client.ts'
import { type Common, several } from '../command.ts'
import { quiet } from '../run.ts'
import { CommandError, EXIT } from '../say.ts'

/** What is wanted of some repositories. */
export interface Aim {
  readonly repositories: readonly string[]
  readonly push?: boolean
  readonly fetch?: boolean
  readonly force?: boolean
  readonly delete?: boolean
  readonly tag?: boolean
  readonly archive?: boolean
  readonly action?: string[]
  readonly ref?: string[]
}

/** What somebody types who asks for a window. */
export interface Wish extends Common, Omit<Aim, 'repositories'> {
  readonly principal?: string
  readonly path?: string[]
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
    .argument('[repository...]', '<upstream>/<path>, without .git; * within a part, ** across parts')
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
    .addOption(
      new Option(
        '--path <pattern>',
        'what a push is to change: "docs/**", and "!docs/legal" for what not; what the policy gives, if left out',
      ).argParser(several),
    )
    .option('--and <repository...>', 'with it, decided as one: acme/web --fetch')
    .option('--for <duration>', 'how long: 30m, 2h, "2 hours"; the usual length, if left out')
    .option('--until <time>', 'when it ends, instead of --for: 2026-01-31T18:00:00Z')
    .option('--from <time>', 'when it begins; at the approval, if left out')
    .option('--reason <text>', 'why')
    .option('--ticket <id>', 'what it belongs to')
    .option('--principal <name>', 'who gets the window, if not you')
    .option('--break-glass', 'at once, where the policy allows it; it is reviewed afterwards')
    .option('--recurring', 'each time that the hours come which the policy names, for so long ahead')
}

/** What was typed between one `--and` and the next. */
export function partsOf(args: readonly string[]): readonly (readonly string[])[] {
  const at = args.indexOf('--and')
  return at < 0 ? [args] : [args.slice(0, at), ...partsOf(args.slice(at + 1))]
}

/**
 * The wish that all of its parts make: each names what it wants of its own repositories; what holds for all of them may stand
 * in any. What is left open is asked of the person, where one sits there.
 *
 * @param more the words of the further parts, read as the first one was
 */
export async function completeBody(
  first: { readonly repositories: readonly string[]; readonly options: Wish },
  more: readonly (readonly string[])[],
  command: () => Command,
): Promise<{ readonly body: object; readonly options: Wish }> {
  const parts = more.map(words => {
    const part = command()
    quiet(part)
    const { args } = part.parse([...words], { from: 'user' })
    return { repositories: args, options: part.opts<Wish>() }
  })
  const all: Wish = Object.assign({}, first.options, ...parts.map(({ options }) => options))
  const [{ options, ...aim }, ...rest] = [await completed({ ...first, all }), ...parts]
  const aims = [aim, ...rest.map(part => ({ ...part.options, repositories: part.repositories }))]
  return { body: bodyOf(aims, { ...all, ...options }), options: all }
}

const REPOSITORIES = 'repository, as <upstream>/<path>: '

/** The first part, with the answers to what it left open. */
async function completed(given: {
  readonly repositories: readonly string[]
  readonly options: Wish
  readonly all: Wish
}): Promise<Aim & { readonly options: Pick<Wish, 'for'> }> {
  const { repositories, options, all } = given
  const aim = { ...options, repositories }
  if (!process.stdin.isTTY) return { ...aim, options: {} }
  const named = repositories.length > 0 ? repositories : (await ask(REPOSITORIES)).split(/[\s,]+/).filter(Boolean)
  if (actionsOf(options).size > 0) return { ...aim, repositories: named, options: {} }
  const what = await ask('what for, of push fetch force delete tag archive [push]: ')
  const wanted = what === '' ? ['push'] : what.split(/[\s,]+/)
  const unknown = wanted.find(word => !ASKABLE.has(word))
  if (unknown !== undefined) throw new CommandError(EXIT.usage, `${JSON.stringify(unknown)} is nothing to ask for`)
  const ref = options.ref ?? several(await ask('branch or pattern [every branch and tag]: '))
  const length = all.for ?? ((all.until === undefined && (await ask('for how long [the usual]: '))) || undefined)
  const asked = Object.fromEntries(wanted.map(word => [word, true]))
  return { ...aim, ...asked, ref, repositories: named, options: length === undefined ? {} : { for: length } }
}

const ASKABLE: ReadonlySet<string> = new Set(['push', 'fetch', 'force', 'delete', 'tag', 'archive'])

/** The same as the gate wants it. */
export function bodyOf(aims: readonly Aim[], wish: Omit<Wish, keyof Aim>): object {
  const [first, ...also] = aims.flatMap(targetsOf)
  return {
    ...first,
    ...(also.length > 0 && { also }),
    principal: wish.principal,
    paths: wish.path,
    for: wish.for,
    expires_at: wish.until,
    starts_at: wish.from,
    reason: wish.reason,
    ticket: wish.ticket,
    break_glass: wish.breakGlass,
    recurring: wish.recurring,
  }
}

function targetsOf(aim: Aim): { readonly repository: string; readonly actions: string[]; readonly refs: string[] }[] {
  if (aim.repositories.length === 0)
    throw new CommandError(EXIT.usage, 'which repository', 'name it: <upstream>/<path>')
  const actions = [...actionsOf(aim)]
  if (actions.length === 0) {
    throw new CommandError(EXIT.usage, 'what for', 'say --push, --fetch, --force, --delete, --tag or --archive')
  }
  return aim.repositories.map(name => ({ repository: name.replace(/\.git$/, ''), actions, refs: aim.ref ?? [] }))
}

function actionsOf(aim: Omit<Aim, 'repositories'>): ReadonlySet<string> {
  const refs = aim.ref ?? []
  const isTag = (ref: string) => ref.startsWith('refs/tags/')
  const actions = new Set(aim.action ?? [])
  if (aim.fetch) actions.add('fetch')
  if (aim.push && (refs.length === 0 || !refs.every(isTag))) actions.add('create').add('update')
  if (aim.push && refs.some(isTag)) actions.add('tag')
  if (aim.force) actions.add('force')
  if (aim.delete) actions.add('delete')
  if (aim.tag) actions.add('tag')
  if (aim.archive) actions.add('archive')
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
