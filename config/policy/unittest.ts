import { z } from 'zod'
import type { Action } from '../../grant/grant.ts'
import { fullRef } from '../../grant/pattern.ts'
import { evaluate } from '../evaluate.ts'
import { written } from '../path.ts'
import type { Policy } from '../policy.ts'
import { ConfigError } from '../problem.ts'
import { readDuration, writeDuration } from '../units.ts'
import { readYaml } from '../yaml.ts'
import { describePlan, peopleNeeded } from './approvers.ts'
import { asking } from './asking.ts'
import type { Asker, Facts } from './govern.ts'
import type { PolicySource } from './load.ts'
import { faults, PolicyError, type PolicyProblem } from './problems.ts'
import { allOnCallAt } from './rota.ts'
import { readTrigger } from './words.ts'

/**
 * Unit tests of a policy, in YAML beside it (`*.test.yaml`): given somebody who asks for something, expect an answer.
 * With `granted: true` the question is an operation under a window that covers it, and no longer the asking for one.
 */

const duration = z
  .string()
  .refine(text => readDuration(text) !== undefined, { error: 'expected a duration such as 2h' })
const moment = z.iso.datetime({ offset: true, error: 'expected a moment such as 2026-11-23T10:00:00Z' })
const action = z.string().superRefine((text, context) => {
  const read = readTrigger(text)
  if (typeof read === 'string') context.addIssue({ code: 'custom', message: read })
})
const texts = z.union([z.string(), z.array(z.string())], { error: 'expected a text or a list of texts' })

const given = z.strictObject({
  principal: z.string(),
  kind: z.enum(['person', 'ci', 'service']).optional(),
  groups: texts.optional(),
  claims: z.record(z.string(), z.string()).optional(),
  address: z.string().optional(),
  mfa: duration.optional(),
  at: moment.optional(),
  action,
  repository: z.string(),
  refs: texts.optional(),
  paths: texts.optional(),
  for: duration.optional(),
  reason: z.string().optional(),
  ticket: z.string().optional(),
  break_glass: z.boolean().optional(),
  recurring: z.boolean().optional(),
  on_call: z.record(z.string(), texts).optional(),
  granted: z.boolean().optional(),
})
const ANSWERS = ['ask', 'automatic', 'break-glass', 'allow', 'observe', 'refuse'] as const
const expected = z.strictObject({
  answer: z.enum(ANSWERS, { error: `expected one of ${ANSWERS.join(', ')}` }),
  rule: z.string().optional(),
  approvers: z.string().optional(),
  people: z.int().optional(),
  window: duration.optional(),
  because: z.string().optional(),
})
const testFile = z.strictObject({
  tests: z.array(z.strictObject({ name: z.string(), given, expect: expected })).max(10_000),
})

export interface PolicyTest {
  readonly name: string
  /** `payments.test.yaml:7`. */
  readonly place: string
  readonly given: z.infer<typeof given>
  readonly expect: z.infer<typeof expected>
}

export interface PolicyTestResult {
  readonly name: string
  readonly place: string
  /** What was not as expected; empty: passed. */
  readonly differences: readonly string[]
}

/** @throws PolicyError with everything wrong in the test files */
export function loadPolicyTests(sources: readonly PolicySource[]): readonly PolicyTest[] {
  const problems: PolicyProblem[] = []
  const tests = sources.flatMap(({ file, text }): PolicyTest[] => {
    try {
      const yaml = readYaml(text, file)
      const parsed = testFile.safeParse(yaml.value)
      if (parsed.success)
        return parsed.data.tests.map((test, index) => ({ ...test, place: `${file}:${yaml.at(['tests', index]).line}` }))
      for (const fault of parsed.error.issues.flatMap(issue => faults(issue, yaml.value))) {
        problems.push({
          file,
          ...(fault.key ? yaml.atKey(fault.path) : yaml.at(fault.path)),
          path: written(fault.path),
          message: fault.message,
        })
      }
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      problems.push(...error.problems.map(problem => ({ file, ...problem })))
    }
    return []
  })
  if (problems.length > 0) throw new PolicyError(problems)
  return tests
}

export function runPolicyTests(policy: Policy, tests: readonly PolicyTest[]): readonly PolicyTestResult[] {
  return tests.map(test => {
    const got = test.given.granted ? operate(policy, test.given) : ask(policy, test.given)
    const { answer, ...rest } = test.expect
    const differences: string[] = []
    if (got.answer !== answer)
      differences.push(`expected ${answer}, got ${got.answer}${got.because ? `: ${got.because}` : ''}`)
    for (const key of ['rule', 'approvers', 'people'] as const) {
      if (rest[key] !== undefined && rest[key] !== got[key])
        differences.push(`expected ${key} ${rest[key]}, got ${got[key] ?? 'none'}`)
    }
    if (rest.window !== undefined && readDuration(rest.window) !== got.window) {
      differences.push(
        `expected window ${rest.window}, got ${got.window === undefined ? 'none' : writeDuration(got.window)}`,
      )
    }
    if (rest.because !== undefined && !got.because?.includes(rest.because))
      differences.push(`expected because "${rest.because}", got "${got.because ?? ''}"`)
    return { name: test.name, place: test.place, differences }
  })
}

interface Got {
  readonly answer: (typeof ANSWERS)[number]
  readonly rule?: string | undefined
  readonly approvers?: string
  readonly people?: number
  readonly window?: number
  readonly because?: string
}

type Given = PolicyTest['given']

const list = (texts: string | readonly string[] | undefined): readonly string[] =>
  texts === undefined ? [] : typeof texts === 'string' ? [texts] : texts

function ask(policy: Policy, given: Given): Got {
  const { now, asker, actions, refs, facts } = situation(policy, given)
  const result = asking(
    policy,
    {
      asker,
      targets: [{ repository: given.repository, actions, refs }],
      ...(given.paths !== undefined && { paths: list(given.paths) }),
      ...(given.for !== undefined && { window: readDuration(given.for)! }),
      ...(given.reason !== undefined && { reason: given.reason }),
      ...(given.ticket !== undefined && { ticket: given.ticket }),
      breakGlass: given.break_glass ?? false,
      recurring: given.recurring ?? false,
    },
    facts,
    now,
  )
  if (result.kind === 'refused') return { answer: 'refuse', rule: result.rule, because: result.reason }
  const { terms, window } = result
  return {
    answer: terms.immediate ?? 'ask',
    rule: terms.rules[0],
    approvers: describePlan(terms.plan),
    people: peopleNeeded(terms.plan),
    window,
  }
}

function operate(policy: Policy, given: Given): Got {
  const { now, asker, actions, refs, facts } = situation(policy, given)
  const grant = {
    id: 'given',
    principal: given.principal,
    repository: given.repository,
    actions: [...actions, 'tag' as const, 'force' as const],
    refs,
    starts: now,
    expires: now + 1,
    reason: '',
  }
  let last: Got = { answer: 'allow' }
  for (const action of actions) {
    const paths = given.paths === undefined ? {} : { paths: list(given.paths) }
    const decision = evaluate(
      policy,
      { ...asker, action, repository: given.repository, refs: refs.map(fullRef), ...paths },
      { ...facts, grants: [grant] },
      now,
    )
    if (decision.kind === 'refused') return { answer: 'refuse', rule: decision.rule, because: decision.reason }
    if (decision.kind === 'observed')
      last = { answer: 'observe', rule: decision.rule, because: decision.instead.reason }
    else if (decision.kind === 'allowed' && last.answer === 'allow') last = { answer: 'allow', rule: decision.rule }
  }
  return last
}

function situation(policy: Policy, given: Given) {
  // A test without a time means any time; a Wednesday noon is in most people's hours, and always the same.
  const now = Date.parse(given.at ?? '2026-01-07T12:00:00Z')
  const trigger = readTrigger(given.action)
  const { actions, ref } = typeof trigger === 'string' ? { actions: [] as Action[], ref: undefined } : trigger
  const asker: Asker = {
    principal: given.principal,
    kind: given.kind ?? 'person',
    groups: list(given.groups),
    ...(given.claims !== undefined && { claims: given.claims }),
    ...(given.address !== undefined && { address: given.address }),
    ...(given.mfa !== undefined && { mfa: now - readDuration(given.mfa)! }),
  }
  const facts: Facts = {
    automatic: [],
    onCall: new Map([
      ...allOnCallAt(policy.rotas, now),
      ...Object.entries(given.on_call ?? {}).map(([schedule, people]) => [schedule, list(people)] as const),
    ]),
  }
  return { now, asker, actions, refs: ref === undefined ? list(given.refs) : [ref], facts }
}
