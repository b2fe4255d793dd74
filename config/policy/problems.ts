import type { z } from 'zod'
import { nearMiss } from '../nearmiss.ts'
import type { Problem } from '../problem.ts'
import type { Path } from '../yaml.ts'

/** One thing wrong in one of the policy's files. */
export interface PolicyProblem extends Problem {
  readonly file: string
}

/** Everything wrong with a policy at once, one `file:line:column: path: message` a line. Nothing of it is in force. */
export class PolicyError extends Error {
  readonly code = 'ERR_POLICY'
  readonly problems: readonly PolicyProblem[]

  constructor(problems: readonly PolicyProblem[], options?: ErrorOptions) {
    const shown = problems.slice(0, PROBLEMS_SHOWN)
    const lines = shown.map(
      ({ file, line, column, path, message }) => `${file}:${line}:${column}: ${path ? `${path}: ` : ''}${message}`,
    )
    if (problems.length > shown.length) lines.push(`and ${problems.length - shown.length} more`)
    super(lines.join('\n'), options)
    this.name = 'PolicyError'
    this.problems = problems
  }
}

const PROBLEMS_SHOWN = 200

/** Where a value stands, and the sentence about it. */
export interface Fault {
  readonly path: Path
  /** The key is at fault and not its value. */
  readonly key?: boolean
  readonly message: string
}

/** Keys that other tools, and people in a hurry, use for the same thing. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  action: 'trigger',
  actions: 'trigger',
  on: 'trigger',
  repo: 'repositories',
  repos: 'repositories',
  repository: 'repositories',
  branch: 'refs',
  branches: 'refs',
  ref: 'refs',
  approver: 'approvers',
  approvals: 'approvers',
  principals: 'who',
  users: 'who',
  duration: 'window',
  max_duration: 'window',
  ttl: 'window',
  idle: 'revoke_on_idle',
  deny: 'forbid',
  rules: 'requests',
  if: 'when',
  condition: 'when',
  schedule: 'hours',
  timezone: 'time_zone',
  ips: 'networks',
}

/** A zod issue in words; `value` is the document it was found in. */
export function faults(issue: z.core.$ZodIssue, value: unknown, above: Path = []): Fault[] {
  const path: Path = [...above, ...issue.path.map(part => (typeof part === 'number' ? part : String(part)))]
  if (issue.code === 'unrecognized_keys') {
    const known = issue.message.split(', ')
    return issue.keys.map(key => ({ path: [...path, key], key: true, message: `unknown key${suggestion(key, known)}` }))
  }
  if (issue.code === 'invalid_union') {
    const branch = meant(issue.errors)
    if (branch) return branch.flatMap(inner => faults(inner, value, path))
  }
  if (issue.code === 'invalid_key') {
    return [{ path, key: true, message: issue.issues[0]?.message ?? issue.message }]
  }
  const found = find(value, path)
  if (found === undefined) return [{ path, message: `missing; ${issue.message}` }]
  // Our own checks quote what they found; zod's do not.
  return [{ path, message: issue.code === 'custom' ? issue.message : `${issue.message}; found ${shown(found)}` }]
}

function suggestion(key: string, known: readonly string[]): string {
  const other = Object.hasOwn(OTHER_WORDS, key) ? OTHER_WORDS[key] : undefined
  const near = other && known.includes(other) ? other : nearMiss(key, known)
  return near ? `; did you mean ${near}?` : `; known here: ${known.join(', ')}`
}

/** Which branch of a union the writer had in mind: the one that got into the value before it found fault. */
function meant(branches: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] | undefined {
  const inside = branches.filter(issues =>
    issues.every(
      issue =>
        issue.path.length > 0 ||
        issue.code === 'custom' ||
        issue.code === 'unrecognized_keys' ||
        issue.code === 'invalid_union',
    ),
  )
  if (inside.length === 1) return inside[0]
  const known = inside.filter(issues =>
    issues.every(issue => issue.code !== 'unrecognized_keys' && issue.code !== 'invalid_union'),
  )
  // Where the same value is at fault in two branches, they say the same of it.
  return known.length > 0 ? known.toSorted((a, b) => a.length - b.length)[0] : undefined
}

function find(value: unknown, path: Path): unknown {
  let part = value
  for (const key of path) {
    if (typeof part !== 'object' || part === null || !Object.hasOwn(part, key)) return undefined
    part = (part as Record<string | number, unknown>)[key]
  }
  return part
}

function shown(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'object') return 'a mapping'
  return JSON.stringify(value).slice(0, 80)
}

/** A path as a person would say it: `requests[3].window.longest`. */
export function written(path: Path): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index > 0 ? '.' : ''}${part}`)).join('')
}
