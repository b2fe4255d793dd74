import type { z } from 'zod'
import { nearMiss } from '../nearmiss.ts'
import { find, type Path } from '../path.ts'
import type { Problem } from '../problem.ts'

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
    const branch = meant(issue.errors, find(value, path))
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

type Issues = readonly z.core.$ZodIssue[]

/** Which branch of a union the writer had in mind: the one that got furthest into the value before it found fault. */
function meant(branches: readonly Issues[], value: unknown): Issues | undefined {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0)
    return undefined
  const inside = branches.filter(gotInside)
  if (inside.length === 1) return inside[0]
  // Of several mappings, one that knows all the keys.
  const known = inside.filter(
    issues => !issues.some(({ code, path }) => code === 'unrecognized_keys' && path.length === 0),
  )
  return known.toSorted((a, b) => depth(b) - depth(a) || a.length - b.length)[0]
}

/** Whether the value is at least of the kind that the branch wants. */
function gotInside(issues: Issues): boolean {
  return issues.every(
    issue =>
      issue.path.length > 0 ||
      (issue.code === 'invalid_union' ? issue.errors.some(gotInside) : issue.code !== 'invalid_type'),
  )
}

/** How many steps into the value its first fault is. */
function depth(issues: Issues): number {
  const depths = issues.map(issue => {
    return issue.path.length + (issue.code === 'invalid_union' ? Math.max(0, ...issue.errors.map(depth)) : 0)
  })
  return Math.min(...depths)
}

function shown(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'object') return 'a mapping'
  return JSON.stringify(value).slice(0, 80)
}
