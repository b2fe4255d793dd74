import { ControlError, type ControlPlane } from '../control.ts'
import { printable } from '../git/pktline.ts'
import type { CommandContext, OwnCommand } from '../ssh/session.ts'
import type { Line } from './line.ts'
import {
  type Asked,
  askedBy,
  LINE_CHARACTERS_MAX,
  lineOf,
  outcomeOf,
  pathOf,
  type Request,
  untilDecided,
} from './request.ts'
import { say, wordOf } from './word.ts'

/**
 * Asking and deciding over stock ssh: what `git access` and `drawbridge request` do, with nothing installed. The control
 * plane decides all of it; here lines become its questions, and its answers lines.
 */

/** Exit status 0 is "approved", as of `git access wait`. */
const UNDECIDED = 5
const ACTION_FLAGS = ['push', 'fetch', 'force', 'delete', 'tag', 'archive'] as const

export function requestWords(control: ControlPlane) {
  const word = wordOf(control)

  return {
    request: word(WISH, `request ${WISH_USAGE} [--wait]`, async (line, asked, context) => {
      const request = await asked.post<Request>('/requests', wishOf(line))
      const waits = partsOf(line).some(({ flags }) => flags.has('wait'))
      return await decided(request, waits, asked, context)
    }),

    status: word({}, 'status [r-…]', async (line, asked, { stdout }) => {
      const request = await asked.get<Request>(pathOf(onlyId(line)))
      for (const sentence of [lineOf(request), ...outcomeOf(request)])
        stdout.write(`${printable(sentence, LINE_CHARACTERS_MAX)}\n`)
      return statusOf(request)
    }),

    wait: word({}, 'wait r-…', async (line, asked, context) => {
      const request = await untilDecided(asked, onlyId(line), context.gone)
      tell(context, request)
      return statusOf(request)
    }),

    release: word({ values: ['reason'] }, 'release g-…|r-… [--reason …]', async (line, asked, context) => {
      const id = onlyId(line)
      const ids = id.startsWith('r-') ? await standingOf(asked, id) : [id]
      for (const grant of ids) {
        await asked.post(`/grants/${encodeURIComponent(grant)}/release`, { reason: line.values.get('reason') })
        say(context, `${grant} is over`)
      }
      return 0
    }),

    extend: word(
      { flags: ['wait'], values: ['for', 'reason', 'ticket'] },
      'extend r-… --for 1h [--reason …] [--ticket ID] [--wait]',
      async (line, asked, context) => {
        const [length, reason, ticket] = ['for', 'reason', 'ticket'].map(name => line.values.get(name))
        if (length === undefined) throw new ControlError(2, 'how long from the approval on')
        const request = await asked.post<Request>(`${pathOf(onlyId(line))}/extend`, { for: length, reason, ticket })
        return await decided(request, line.flags.has('wait'), asked, context)
      },
    ),

    withdraw: word({ values: ['reason'] }, 'withdraw r-… [--reason …]', async (line, asked, context) => {
      const request = await asked.post<Request>(`${pathOf(onlyId(line))}/withdraw`, {
        reason: line.values.get('reason'),
      })
      say(context, `${request.id} is withdrawn`)
      return 0
    }),

    explain: word(WISH, `explain ${WISH_USAGE}`, async (line, asked, { stdout }) => {
      const prospect = await asked.post<Prospect>('/requests/explain', wishOf(line))
      const rule = prospect.rules.length === 0 ? '' : ` (rule ${prospect.rules.join(', ')})`
      const { possible, way, reason } = prospect
      const said = possible ? `${prospect.for}, ${way}${rule}` : `no${rule}: ${reason}`
      stdout.write(`${printable(said, 1_000)}\n`)
      return possible ? 0 : 1
    }),

    pending: word({}, 'pending', async (line, asked, context) => {
      if (line.words.length > 0) throw new ControlError(2, 'pending takes no arguments')
      const { requests } = await asked.get<{ requests: Request[] }>('/requests?state=requested&mine=false')
      const waiting = requests.filter(({ may_decide }) => may_decide)
      if (waiting.length === 0) say(context, 'nothing waits for you')
      for (const request of waiting) context.stdout.write(`${lineOf(request)}\n`)
      return 0
    }),

    approve: word({ values: ['reason'] }, 'approve r-… [--reason …]', (line, asked, context) =>
      vote('approve', line, asked, context),
    ),
    deny: word({ values: ['reason'] }, 'deny r-… --reason …', (line, asked, context) => {
      if (!line.values.has('reason')) throw new ControlError(2, 'say why, and what would do: --reason …')
      return vote('deny', line, asked, context)
    }),
  } satisfies Record<string, OwnCommand>
}

interface Prospect {
  readonly possible: boolean
  readonly rules: readonly string[]
  readonly for?: string
  readonly way?: string
  readonly reason?: string
}

/** Tells what was asked for, and where it is waited for what became of it. */
async function decided(request: Request, waits: boolean, asked: Asked, context: CommandContext): Promise<number> {
  tell(context, request)
  if (!waits || request.state !== 'requested') return 0
  const known = await untilDecided(asked, request.id, context.gone)
  tell(context, known)
  return statusOf(known)
}

/** The requests of this person that nobody has decided yet, a line each. */
export async function pendingOf(control: ControlPlane, context: CommandContext): Promise<string[]> {
  const { requests } = await askedBy(context, control).get<{ requests: Request[] }>(
    '/requests?mine=true&state=requested',
  )
  return requests.flatMap(outcomeOf).map(line => printable(line, 500))
}

async function vote(says: 'approve' | 'deny', line: Line, asked: Asked, context: CommandContext): Promise<number> {
  const id = onlyId(line)
  const shown = await asked.get<Request>(pathOf(id))
  context.stdout.write(`${lineOf(shown)}\n`)
  const reason = line.values.get('reason')
  const request = await asked.post<Request>(`${pathOf(id)}/${says}`, { digest: shown.digest, reason })
  for (const sentence of outcomeOf(request)) say(context, sentence)
  return 0
}

const WISH = {
  flags: [...ACTION_FLAGS, 'wait', 'break-glass', 'recurring'],
  values: ['ref', 'path', 'for', 'reason', 'ticket', 'principal'],
  and: true,
} as const
const WISH_USAGE =
  'REPOSITORY… --push|--fetch|--force|--delete|--tag|--archive [--ref PATTERN] [--path PATTERN] [--and REPOSITORY… --fetch …] [--for 2h] [--reason …] [--ticket ID] [--principal NAME]'

/** As `git access request` reads its options: each part says what it wants, and any of them what holds for all. */
function wishOf(line: Line): object {
  const parts = partsOf(line)
  const [first, ...also] = parts.flatMap(targetsOf)
  const values = new Map(parts.flatMap(part => [...part.values]))
  const says = (flag: string) => parts.some(({ flags }) => flags.has(flag))
  return {
    ...first,
    ...(also.length > 0 && { also }),
    principal: values.get('principal'),
    ...(values.has('path') && { paths: listOf(values.get('path')) }),
    for: values.get('for'),
    reason: values.get('reason'),
    ticket: values.get('ticket'),
    ...(says('break-glass') && { break_glass: true }),
    ...(says('recurring') && { recurring: true }),
  }
}

const listOf = (text = '') => text.split(/[\s,]+/).filter(one => one !== '')

const partsOf = (line: Line): Line[] => [line, ...(line.and ? partsOf(line.and) : [])]

function targetsOf({ words, flags, values }: Line): object[] {
  if (words.length === 0) throw new ControlError(2, 'name a repository: <upstream>/<path>')
  const refs = listOf(values.get('ref'))
  const isTag = (ref: string) => ref.startsWith('refs/tags/')
  const actions = new Set<string>(ACTION_FLAGS.filter(flag => flag !== 'push' && flags.has(flag)))
  if (flags.has('push') && (refs.length === 0 || !refs.every(isTag))) actions.add('create').add('update')
  if (flags.has('push') && refs.some(isTag)) actions.add('tag')
  if (actions.size === 0) throw new ControlError(2, 'say what for')
  return words.map(name => ({ repository: name.replace(/\.git$/, ''), actions: [...actions], refs }))
}

function onlyId({ words }: Line): string {
  const [id, ...more] = words
  if (id === undefined || more.length > 0) throw new ControlError(2, 'name one request')
  return id
}

async function standingOf(asked: Asked, id: string): Promise<string[]> {
  const { grants } = await asked.get<Request>(pathOf(id))
  const standing = grants.filter(({ state }) => state === 'live' || state === 'scheduled').map(grant => grant.id)
  if (standing.length === 0) throw new ControlError(1, `${id} has no window that stands`)
  return standing
}

function statusOf({ state }: Request): number {
  return state === 'approved' ? 0 : state === 'requested' ? UNDECIDED : 1
}

/** The id for a program, what became of it for a person. */
function tell(context: CommandContext, request: Request): void {
  context.stdout.write(`${request.id}\n`)
  for (const sentence of outcomeOf(request)) say(context, sentence)
}
