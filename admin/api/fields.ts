import { z } from 'zod'
import { DURATION_FORM, readDuration } from '../../config/units.ts'
import { ACTIONS, type Bounds } from '../../grant/grant.ts'
import { checkPathPattern, PATHS_MAX } from '../../grant/paths.ts'
import { checkRefPattern, checkRepositoryPattern } from '../../grant/pattern.ts'
import { RESERVED } from './access.ts'
import { Problem } from './problem.ts'

// What comes in and goes out, field by field. Text that people type is bounded, and holds no control characters: it ends up
// in terminals.

const REASON_CHARACTERS_MAX = 500
export const PAGE_MAX = 500
const REFS_MAX = 64
/** The longest window, and the furthest ahead one may begin. */
export const WINDOW_MILLISECONDS_MAX = 90 * 86_400_000

export const line = (max: number) =>
  z
    .string()
    .min(1, 'cannot be empty')
    .max(max, `has at most ${max} characters`)
    .refine(text => !/\p{Cc}/u.test(text), 'is one line without control characters')

export const principal = line(255)
  .refine(text => text.trim() === text, 'has no space at either end')
  .refine(text => !RESERVED.includes(text), 'is a name the gate keeps for itself')
export const reason = line(REASON_CHARACTERS_MAX)
export const title = line(100)
export const id = z
  .string()
  .regex(/^[a-z]-[0-9a-z]{1,40}$/, 'is no id: g-… for a grant, t-… for a token, op-… for an operation')
export const operationId = z.string().regex(/^op-[0-9a-z]{1,40}$/, 'is no id of an operation: op-…')

export const repositoryPattern = z.string().check(context => {
  const fault = checkRepositoryPattern(context.value)
  if (fault !== undefined) context.issues.push({ code: 'custom', message: fault, input: context.value })
})

const refPattern = z.string().check(context => {
  const fault = checkRefPattern(context.value)
  if (fault !== undefined) context.issues.push({ code: 'custom', message: fault, input: context.value })
})

export const refPatterns = z.array(refPattern).max(REFS_MAX).default([]).describe('none: every branch and tag')

/** What of a repository a push is to change. */
export const pathList = z
  .array(
    z.string().check(context => {
      const fault = checkPathPattern(context.value)
      if (fault !== undefined) context.issues.push({ code: 'custom', message: fault, input: context.value })
    }),
  )
  .min(1, 'names at least one path')
  .max(PATHS_MAX)

/** The lists that bound what a push changes, as they are shown. */
export const paths = z.array(z.array(z.string()))
export const pathsOf = (bounds: Bounds | undefined) =>
  bounds?.paths === undefined ? {} : { paths: bounds.paths.map(list => [...list]) }

export const action = z.enum(ACTIONS)
export const role = z.enum(['developer', 'approver', 'auditor', 'admin', 'front'])
export const duration = z
  .string()
  .max(50)
  .refine(text => (readDuration(text) ?? 0) > 0, `is ${DURATION_FORM}`)
  .describe(`a length of time: 90s, 30m, 1h30m, "2 hours"`)
export const instant = z.iso
  .datetime({ offset: true, message: 'is a time such as 2026-01-31T12:00:00Z' })
  .describe('a moment: RFC 3339')
export const limit = z.coerce.number().int().min(1).max(PAGE_MAX).default(100)

/** `for` or `expires_at`: how long something is to hold. */
export const length = { for: duration.optional(), expires_at: instant.optional() }

/**
 * When something ends that begins at `from`. All in milliseconds.
 * @throws Problem when neither or both were given, or the end is not after `after` or too far away
 */
export function endOf(
  asked: { readonly for?: string | undefined; readonly expires_at?: string | undefined },
  bounds: { readonly from: number; readonly after: number; readonly longest: number; readonly otherwise?: number },
): number {
  const { from, after, longest, otherwise } = bounds
  if (asked.for !== undefined && asked.expires_at !== undefined) {
    throw new Problem(400, 'invalid', 'give "for" or "expires_at", not both')
  }
  const length = asked.for === undefined ? otherwise : readDuration(asked.for)
  const end = asked.expires_at === undefined ? length && from + length : Date.parse(asked.expires_at)
  if (end === undefined) throw new Problem(400, 'invalid', 'give "for" (such as 2h) or "expires_at"')
  if (end <= after) throw new Problem(400, 'invalid', `expires_at: ${iso(end)} is over before it begins`)
  if (end - from > longest) {
    throw new Problem(400, 'invalid', `for: at most ${Math.round(longest / 86_400_000)} days`)
  }
  return end
}

export function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  code: z.string(),
  detail: z.string(),
  hint: z.string().optional(),
  errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
})

/** What every route can answer besides what it is for. */
export const refusals = {
  400: problemSchema,
  401: problemSchema,
  403: problemSchema,
  429: problemSchema,
  503: problemSchema,
}
