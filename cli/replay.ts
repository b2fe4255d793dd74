import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { readPolicy } from '../config/policy/load.ts'
import { type Change, type ReplayOperation, replay } from '../config/policy/replay.ts'
import { readDuration } from '../config/units.ts'
import { query } from './client.ts'
import { type Common, gate } from './command.ts'
import { operationsOf, type RecordedEntry } from './recorded.ts'
import { CommandError, data, EXIT, json, plain, say } from './say.ts'

/** `drawbridge policy replay`: what a policy would change for operations that were recorded. */

export interface ReplayOptions extends Common {
  readonly since?: string
  readonly until?: string
  readonly operations?: string
  readonly before?: string
  readonly strict?: boolean
}

const ENTRIES_MAX = 1_000_000
/** How long before the first operation its principal may have signed in. */
const SIGNIN_MILLISECONDS = 31 * 86_400_000

/** @returns the exit status */
export async function runReplay(path: string, options: ReplayOptions): Promise<number> {
  const policy = readPolicy(path)
  const before = options.before === undefined ? undefined : readPolicy(options.before)
  const operations = await wanted(options)
  const changes = replay(policy, operations, before)
  for (const alike of Map.groupBy(changes, lineOf).values()) show(alike, options)
  say(`${changes.length} of ${operations.length} operations would change`)
  return changes.length > 0 && options.strict ? 1 : 0
}

async function wanted({ since, until, operations, ...common }: ReplayOptions): Promise<readonly ReplayOperation[]> {
  if ((since === undefined) === (operations === undefined))
    throw new CommandError(EXIT.usage, 'which operations', 'say --since 30d, or --operations FILE')
  if (operations !== undefined) {
    const lines = readFileSync(operations === '-' ? 0 : operations, 'utf8').split('\n')
    return lines.filter(line => line.trim() !== '').map(readOperation)
  }
  const from = momentOf('--since', since ?? '')
  const to = until === undefined ? undefined : new Date(momentOf('--until', until)).toISOString()
  return operationsOf(await recorded(common, from, to))
}

/** What the ledger has of that time, oldest first. */
async function recorded(common: Common, from: number, until: string | undefined): Promise<RecordedEntry[]> {
  const kinds = [
    ['signin.made', from - SIGNIN_MILLISECONDS],
    ['operation.start', from],
    ['operation.refused', from],
  ] as const
  const entries: RecordedEntry[] = []
  for (const [kind, since] of kinds) {
    const asked = query({ format: 'jsonl', kind, since: new Date(since).toISOString(), until })
    const answer = await gate(common).stream(`/audit/export${asked}`)
    for await (const line of createInterface({ input: answer, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line !== '') entries.push(JSON.parse(line) as RecordedEntry)
      if (entries.length > ENTRIES_MAX) {
        throw new CommandError(EXIT.failed, `more than ${ENTRIES_MAX} records`, 'ask for less with --since and --until')
      }
    }
  }
  return entries.sort((a, b) => a.seq - b.seq)
}

function momentOf(option: string, text: string): number {
  const ago = readDuration(text)
  const moment = ago === undefined ? Date.parse(text) : Date.now() - ago
  if (Number.isNaN(moment))
    throw new CommandError(EXIT.usage, `${option} is how long ago, such as 30d, or a time such as 2026-01-31T12:00:00Z`)
  return moment
}

const lineOf = ({ operation, was, becomes }: Change) =>
  `${operation.principal} ${operation.action} ${operation.repository} ${operation.refs.join(' ')}: ${was} → ${becomes}`

/** Those that differ in their time alone are one line. */
function show(alike: readonly Change[], { json: asJson }: Common): void {
  if (asJson)
    for (const { operation, direction, was, becomes } of alike) json({ id: operation.id, direction, was, becomes })
  else {
    const [first] = alike
    const more = alike.length === 1 ? '' : ` and ${alike.length - 1} more:`
    if (first) data(plain(`${first.operation.id}${more} ${lineOf(first)}`))
  }
}

function readOperation(line: string, index: number): ReplayOperation {
  const wrong = () =>
    new CommandError(
      EXIT.usage,
      `line ${index + 1} is no operation: {"id", "at", "principal", "kind", "groups", "action", "repository", "refs", "result"}`,
    )
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw wrong()
  }
  if (typeof value !== 'object' || value === null) throw wrong()
  const read = value as Partial<{ [key in keyof ReplayOperation]: unknown }>
  const at = typeof read.at === 'string' ? Date.parse(read.at) : read.at
  const texts = [read.id, read.principal, read.kind, read.action, read.repository, read.result].every(
    text => typeof text === 'string',
  )
  if (!texts || typeof at !== 'number' || Number.isNaN(at) || !Array.isArray(read.refs) || !Array.isArray(read.groups))
    throw wrong()
  return { ...(value as ReplayOperation), at }
}
