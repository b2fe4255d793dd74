import { writeFileSync } from 'node:fs'
import { z } from 'zod'
import { checkPathPattern } from '../../grant/paths.ts'
import { checkRefPattern, checkRepositoryPattern } from '../../grant/pattern.ts'
import { compileCondition, compilePattern } from '../conditions.ts'
import { DURATION_FORM, readDuration, readSize, SIZE_FORM } from '../units.ts'
import { EVENT_FORM, readEvent } from './events.ts'
import { CLOCK_FORM, DAYS_FORM, isZone, readClock, readDays } from './hours.ts'
import { checkNetwork, NETWORK_FORM } from './network.ts'
import { QUOTA_FORM, readQuota } from './quota.ts'
import { actionsOf, readTrigger, TRIGGER_FORM } from './words.ts'

/**
 * The policy's language as people write it. Everything that can be told from one value alone is checked here, so that
 * each fault has its line; what needs the rest of the document is `compile.ts`. The published JSON Schema is made of this.
 */

export const RULES_MAX = 20_000
const LIST_MAX = 5_000
/** A window longer than this is a standing permission by another name. */
const WINDOW_MAX = 90 * 86_400_000

/** A text with a form of its own. `check` answers undefined, or what is wrong; `form` says what is accepted. */
function text(form: string, check: (written: string) => string | undefined) {
  return z
    .string({ error: `expected ${form}` })
    .superRefine((written, context) => {
      const fault = check(written)
      if (fault !== undefined) context.addIssue({ code: 'custom', message: fault })
    })
    .meta({ description: form })
}

/** A mapping of just these keys; they are the message when another one is met, for `problems.ts` to suggest from. */
function object<S extends z.ZodRawShape>(shape: S) {
  const keys = Object.keys(shape).join(', ')
  return z.strictObject(shape, {
    error: issue => (issue.code === 'unrecognized_keys' ? keys : `expected a mapping of ${keys}`),
  })
}

/** Any text, within bounds. */
function words(what: string, most: number) {
  const error = `expected ${what} of 1 to ${most} characters`
  return z.string({ error }).min(1, { error }).max(most, { error })
}

const quoted = (written: string) => `"${written.slice(0, 80)}"`
const thrown = (run: () => unknown) => {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** `what` says in the plural what stands in it. */
function list<T extends z.ZodType>(one: T, what: string, least = 0, most = LIST_MAX) {
  const count = least === 0 ? `a list of at most ${most}` : `a list of ${least} to ${most}`
  const error = `expected ${count} ${what}`
  return z.array(one, { error }).min(least, { error }).max(most, { error })
}

function oneOrMany<T extends z.ZodType>(one: T) {
  const form = one.meta()?.description ?? 'a text'
  const error = `expected ${form}, or a list of them`
  return z.union([one, z.array(one).min(1, { error }).max(LIST_MAX, { error })], { error })
}

/** What people named themselves. */
function table<T extends z.ZodType>(value: T, what: string) {
  return z.record(name, value, { error: `expected a mapping: ${what}` })
}

const NAME_FORM = 'a name of letters, digits and . _ - @ : / +, at most 120 characters'
const isName = (written: string) => /^[\p{L}\p{N}][\p{L}\p{N}._@:/+-]{0,119}$/u.test(written)
const name = text(NAME_FORM, written => (isName(written) ? undefined : `${quoted(written)} is not ${NAME_FORM}`))
const duration = text(DURATION_FORM, written => {
  const read = readDuration(written)
  if (read === undefined || read <= 0) return `${quoted(written)} is not ${DURATION_FORM}`
  return read > 366 * 86_400_000 ? `${quoted(written)} is more than 366 days` : undefined
})
const windowLength = text(`${DURATION_FORM}; at most 90 days`, written => {
  const read = readDuration(written)
  if (read === undefined || read <= 0) return `${quoted(written)} is not ${DURATION_FORM}`
  return read > WINDOW_MAX
    ? `${quoted(written)} is more than 90 days: that is no window but a standing permission`
    : undefined
})
const REPOSITORY_FORM =
  'a repository as <upstream>/<path>, where * stands for part of one segment and ** for several segments'
const repository = text(REPOSITORY_FORM, written => unlike(REPOSITORY_FORM, written, checkRepositoryPattern(written)))
const REF_FORM = 'a branch such as main or release/*, or a full ref such as refs/tags/v*'
const ref = text(REF_FORM, written => unlike(REF_FORM, written, checkRefPattern(written)))
const PATH_FORM = 'a path in the repository such as docs/** or .github/workflows/*'
const path = text(PATH_FORM, written =>
  unlike(PATH_FORM, written, written.startsWith('!') ? 'no "!" in here' : checkPathPattern(written)),
)
const PATHS_FORM = `${PATH_FORM}, or !.github/** for what may not be changed`
const listedPath = text(PATHS_FORM, written => unlike(PATHS_FORM, written, checkPathPattern(written)))
const RULE_TRIGGER_FORM = `${TRIGGER_FORM}; or what a host says: ${EVENT_FORM}`
const trigger = text(RULE_TRIGGER_FORM, written => {
  const read = readEvent(written) ?? readTrigger(written)
  return typeof read === 'string' ? read : undefined
})
const OPENS_FORM = 'an action such as clone or push'
const opened = text(OPENS_FORM, written => (actionsOf(written) ? undefined : `${quoted(written)} is not ${OPENS_FORM}`))
const PATTERN_FORM = 'a pattern in RE2 syntax such as ^PAY-[0-9]+$'
const pattern = text(PATTERN_FORM, written =>
  unlike(
    PATTERN_FORM,
    written,
    thrown(() => compilePattern(written)),
  ),
)
const CONDITION_FORM = 'a condition in CEL such as "oncall" in groups'
const condition = text(CONDITION_FORM, written =>
  unlike(
    CONDITION_FORM,
    written,
    thrown(() => compileCondition(written)),
  ),
)
const network = text(NETWORK_FORM, checkNetwork)
const day = text(DAYS_FORM, written => (readDays(written) ? undefined : `${quoted(written)} is not ${DAYS_FORM}`))
const clock = text(CLOCK_FORM, written =>
  readClock(written) === undefined ? `${quoted(written)} is not ${CLOCK_FORM}` : undefined,
)
const ZONE_FORM = 'an IANA time zone such as Europe/Berlin or UTC'
const zone = text(ZONE_FORM, written => (isZone(written) ? undefined : `${quoted(written)} is not ${ZONE_FORM}`))
const quota = text(QUOTA_FORM, written => (readQuota(written) ? undefined : `${quoted(written)} is not ${QUOTA_FORM}`))
const size = text(SIZE_FORM, written => {
  const read = readSize(written)
  return read !== undefined && read > 0 ? undefined : `${quoted(written)} is not ${SIZE_FORM}`
})
const DATE_FORM = 'a date such as 2026-12-24, or a moment such as 2026-12-24T18:00:00Z'
const date = text(DATE_FORM, written =>
  readDate(written) === undefined ? `${quoted(written)} is not ${DATE_FORM}` : undefined,
)
const sentence = words('a sentence', 500)
const count = (most: number) => {
  const error = `expected a whole number from 1 to ${most}`
  return z.int({ error }).min(1, { error }).max(most, { error })
}
const flag = z.boolean({ error: 'expected true or false' })

function unlike(form: string, written: string, fault: string | undefined): string | undefined {
  return fault === undefined ? undefined : `${quoted(written)}: ${fault}; expected ${form}`
}

/** Milliseconds; a date alone is its first moment in UTC. */
export function readDate(written: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2}))?$/.test(written)) return undefined
  const read = Date.parse(written)
  // Date.parse takes 31 April for 1 May.
  const real =
    !Number.isNaN(read) && new Date(`${written.slice(0, 10)}T00:00:00Z`).toISOString().startsWith(written.slice(0, 10))
  return real ? read : undefined
}

const APPROVER_FORM = 'a group or person: leads, group:leads, mona@acme.example, person:mona or on-call:payments'
const approver = text(APPROVER_FORM, written => {
  const bare = written.replace(/^(group|person|on-call):/, '')
  return isName(bare) ? undefined : `${quoted(written)} is not ${APPROVER_FORM}`
})
const ASKER_FORM = `${APPROVER_FORM.replace('a group or person', 'a group, person or machine').replace(' or on-call', ', on-call')}, ci:<name> or service:<name> where * stands for part of one segment, or anyone`
const asker = text(ASKER_FORM, written => {
  const bare = written.replace(/^(group|person|on-call|ci|service):/, '')
  return /^[\p{L}\p{N}*][\p{L}\p{N}._@:/+*-]{0,199}$/u.test(bare) &&
    (!bare.includes('*') || /^(ci|service):/.test(written))
    ? undefined
    : `${quoted(written)} is not ${ASKER_FORM}`
})

const approverList = list(approver, 'groups and people', 1, 200)
const step = z.union(
  [
    approver,
    object({ any_of: approverList }).meta({ description: 'one of these' }),
    object({ all_of: approverList }).meta({ description: 'one person of each of these; two groups are two people' }),
    object({ n: count(20), of: approverList }).meta({ description: 'so many different people of these' }),
  ],
  { error: `expected ${APPROVER_FORM}, { any_of: […] }, { all_of: […] } or { n: 2, of: […] }` },
)
const steps = list(step, 'steps, each a group, a person, { any_of: […] }, { all_of: […] } or { n: 2, of: […] }', 1, 10)
const approvers = z
  .union([step, approverList, steps, object({ steps })], {
    error:
      'expected a group or person, a list of them (any one approves), { any_of: […] }, { all_of: […] }, { n: 2, of: […] }, or { steps: [ … ] } of these',
  })
  .meta({ description: 'Who says yes. A list of names: any one of them. Nobody ever approves for themselves.' })

const hoursPart = object({ days: oneOrMany(day), from: clock, to: clock, zone: zone.optional() })
const hours = oneOrMany(
  hoursPart.meta({ description: '{ days: mon-fri, from: "09:00", to: "18:00", zone: Europe/Berlin }' }),
)
const idle = z.union([flag, duration], { error: `expected true, false, or ${DURATION_FORM}` })
const reason = z.union([flag, pattern, object({ pattern: pattern.optional(), example: sentence.optional() })], {
  error: `expected true, ${PATTERN_FORM}, or { pattern, example }`,
})
const ticket = z.union([pattern, object({ pattern, example: sentence.optional() })], {
  error: `expected ${PATTERN_FORM}, or { pattern, example }`,
})
const window = z.union(
  [
    windowLength,
    object({
      longest: windowLength.optional().meta({ description: 'the longest window this rule gives' }),
      default: windowLength.optional().meta({ description: 'the window given when none is asked for' }),
      beyond: z
        .enum(['refuse', 'clip'], { error: 'expected refuse or clip' })
        .optional()
        .meta({ description: 'what happens to a request for longer' }),
    }),
  ],
  { error: 'expected a duration such as 4h, or { longest: 8h, default: 1h, beyond: refuse | clip }' },
)
const mode = z.enum(['enforce', 'observe'], { error: 'expected enforce or observe' })

/** What a rule may say and `defaults` may say for all rules. */
const shared = {
  approvers: approvers.optional(),
  window: window.optional(),
  timeout: duration.optional().meta({ description: 'how long a request waits for its approvals before it lapses' }),
  revoke_on_idle: idle
    .optional()
    .meta({ description: 'end the window after this long without use; true is 30 minutes' }),
  reason: reason.optional().meta({ description: 'a reason has to be given: true, a pattern, or { pattern, example }' }),
  ticket: ticket.optional().meta({ description: 'a ticket has to be named, by itself or in the reason' }),
  mfa: duration.optional().meta({ description: 'a second factor has to have been shown within this time' }),
  networks: oneOrMany(network)
    .optional()
    .meta({ description: 'where the request and every operation have to come from' }),
  hours: hours.optional().meta({ description: 'when requests are taken and windows are open' }),
  auto_request: z
    .union([flag, object({ wait: duration })], { error: 'expected true, false or { wait: 5m }' })
    .optional()
    .meta({ description: 'a refused operation files the request by itself, and may wait this long for the answer' }),
  escalate: object({ after: duration, to: approverList })
    .optional()
    .meta({ description: 'after this long without an answer these may approve as well and are told' }),
} as const

const rule = object({
  name: name.optional(),
  description: sentence.optional(),
  trigger: oneOrMany(trigger).meta({ description: RULE_TRIGGER_FORM }),
  opens: oneOrMany(opened)
    .optional()
    .meta({ description: 'of a rule that what a host says triggers: what it opens, such as clone or push' }),
  until: words("a pipeline's name", 100)
    .optional()
    .meta({ description: 'the pipeline whose end closes what a merge opened; the first that ends when left out' }),
  repositories: oneOrMany(repository)
    .optional()
    .meta({ description: `${REPOSITORY_FORM}; every repository when left out` }),
  class: oneOrMany(name).optional().meta({ description: 'only repositories of this class' }),
  refs: oneOrMany(ref)
    .optional()
    .meta({ description: `${REF_FORM}; any branch or tag when left out` }),
  paths: z
    .union([oneOrMany(listedPath), object({ only: oneOrMany(path).optional(), never: oneOrMany(path).optional() })], {
      error: `expected ${PATHS_FORM}, a list of them, or { only: […], never: […] }`,
    })
    .optional()
    .meta({ description: 'which paths a push may change; what is forbidden is, whatever else is allowed' }),
  who: oneOrMany(asker)
    .optional()
    .meta({ description: `${ASKER_FORM}; every person and no machine when left out` }),
  when: condition.optional().meta({ description: 'a condition in CEL; the rule speaks only where it is true' }),
  final: flag.optional().meta({ description: 'who is not named by this rule gets no rule below it either' }),
  forbid: sentence.optional().meta({ description: 'never: this sentence is the answer' }),
  ...shared,
  automatic: z
    .union([flag, object({ on_call: name.optional(), quota: quota.optional() })], {
      error: 'expected true, false or { on_call: <schedule>, quota: "3 per day" }',
    })
    .optional()
    .meta({ description: 'approved by the policy itself, for who is on call, so many times' }),
  break_glass: z
    .union([flag, object({ review: approvers.optional(), within: duration.optional() })], {
      error: 'expected true, false or { review: <approvers>, within: 24h }',
    })
    .optional()
    .meta({ description: 'open at once, tell everybody, review afterwards; only for requests that say so' }),
  single_use: flag.optional().meta({ description: 'one push landed or one pack delivered, then the window ends' }),
  budget: object({ uses: count(100_000).optional(), bytes: size.optional() })
    .optional()
    .meta({ description: 'what a window may be used for in all' }),
  recurring: object({ hours, longest: windowLength })
    .optional()
    .meta({ description: 'a request may ask for all of these hours at once, up to so far ahead' }),
  mode: mode.optional().meta({ description: 'observe: let through what this rule would refuse, and record it' }),
})

const moment = text('a moment such as 2026-12-24T18:00:00Z', written =>
  written.includes('T') && readDate(written) !== undefined
    ? undefined
    : `${quoted(written)} is not a moment such as 2026-12-24T18:00:00Z`,
)
const rota = object({
  zone: zone.optional().meta({ description: 'whose clock it goes by; time_zone when left out' }),
  shifts: list(object({ days: oneOrMany(day), from: clock, to: clock, people: oneOrMany(name) }), 'shifts')
    .optional()
    .meta({ description: 'who is on call at which hours of every week' }),
  turns: object({ since: moment, people: list(name, 'names, in their turn', 1) })
    .optional()
    .meta({ description: 'one after the other, a week each; since is when the first one begins' }),
  overrides: list(object({ from: moment, until: moment, people: oneOrMany(name) }), 'overrides')
    .optional()
    .meta({ description: 'who is on call instead, from when until when; the last one counts' }),
})

const person = z.union([oneOrMany(name), object({ identities: oneOrMany(name) })], {
  error: 'expected the names under which this person signs in',
})
const className = object({
  description: sentence.optional(),
  approvals: count(10).optional().meta({ description: 'at least so many different people approve' }),
  longest: windowLength.optional().meta({ description: 'no window is longer, whatever its rule says' }),
  mfa: duration.optional(),
  automatic: z
    .literal(false, { error: 'expected false' })
    .optional()
    .meta({ description: 'nothing is approved without people' }),
  reason: z.literal(true, { error: 'expected true' }).optional(),
})

export const policySchema = object({
  version: z.literal(1, { error: 'expected version: 1' }),
  description: sentence.optional(),
  mode: mode
    .optional()
    .meta({ description: 'observe: let everything through and record what would have been refused' }),
  time_zone: zone.optional().meta({ description: 'the zone of hours that name none; UTC when left out' }),
  defaults: object(shared).optional().meta({ description: 'said for every rule that does not say otherwise' }),
  people: table(person, 'the name of each person with the names they sign in under')
    .optional()
    .meta({ description: 'the identities that belong to one person' }),
  groups: table(oneOrMany(name), 'the name of each group with its people')
    .optional()
    .meta({ description: 'groups beside those of the identity provider' }),
  services: table(
    object({ owner: name, identities: oneOrMany(name).optional() }),
    'the name of each account with its owner',
  )
    .optional()
    .meta({ description: 'service accounts and who answers for them' }),
  delegates: list(
    object({ from: name, to: name, since: date.optional(), until: date }),
    'delegates: { from, to, until }',
  )
    .optional()
    .meta({ description: 'who approves in whose place, until when' }),
  on_call: table(rota, 'the name of each schedule with its shifts or turns')
    .optional()
    .meta({ description: 'who is on call, by the name of the schedule' }),
  classes: table(className, 'the name of each class with what holds for it')
    .optional()
    .meta({ description: 'what holds for all repositories of a class, whatever the rules say' }),
  repositories: list(
    object({ match: oneOrMany(repository), class: name.optional(), mode: mode.optional() }),
    'repositories: { match, class, mode }',
    0,
    RULES_MAX,
  )
    .optional()
    .meta({
      description:
        'which repositories are of which class, and which are only observed; the first entry that matches counts',
    }),
  requests: list(rule, 'rules: { trigger, approvers, … }', 0, RULES_MAX)
    .optional()
    .meta({ description: 'the rules, tried from the top' }),
}).meta({ title: 'Drawbridge policy', description: 'Who may ask for which window, and who approves it.' })

export type PolicyDocument = z.infer<typeof policySchema>
export type RuleDocument = z.infer<typeof rule>
export type SharedDocument = NonNullable<PolicyDocument['defaults']>
export type ClassDocument = z.infer<typeof className>
export type ApproversDocument = z.infer<typeof approvers>
export type HoursDocument = z.infer<typeof hours>

/** The JSON Schema (2020-12) that editors use; `node config/policy/schema.ts` writes it. */
export function policyJsonSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(policySchema, { io: 'input' }), undefined, 2)}\n`
}

if (import.meta.main) writeFileSync(new URL('../policy.schema.json', import.meta.url), policyJsonSchema())
