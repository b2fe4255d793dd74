import { expect, test } from 'vitest'
import { loadPolicy } from '../../../config/policy/load.ts'
import { PolicyError, type PolicyProblem } from '../../../config/policy/problems.ts'
import { policyJsonSchema } from '../../../config/policy/schema.ts'

/** Every field of the language, with something right in it. */
const WHOLE = {
  version: 1,
  description: 'payments',
  mode: 'enforce',
  time_zone: 'Europe/Berlin',
  defaults: {
    approvers: 'leads',
    window: '2h',
    timeout: '4h',
    revoke_on_idle: true,
    reason: true,
    ticket: 'PAY-[0-9]+',
    mfa: '15m',
    networks: '10.0.0.0/8',
    hours: { days: 'mon-fri', from: '09:00', to: '18:00', zone: 'Europe/Berlin' },
    auto_request: true,
    escalate: { after: '20m', to: ['directors'] },
  },
  people: { mona: ['mona@acme.example'], raj: { identities: ['raj@acme.example'] } },
  groups: { leads: ['mona', 'raj'] },
  services: { bot: { owner: 'mona', identities: ['bot:release'] } },
  delegates: [{ from: 'mona', to: 'raj', since: '2026-12-20', until: '2027-01-06' }],
  on_call: {
    payments: {
      zone: 'UTC',
      shifts: [{ days: 'mon-fri', from: '09:00', to: '18:00', people: ['mona'] }],
      turns: { since: '2026-01-05T09:00:00+01:00', people: ['mona'] },
      overrides: [{ from: '2026-12-24T00:00:00Z', until: '2026-12-27T00:00:00Z', people: ['raj'] }],
    },
  },
  classes: {
    critical: { description: 'money', approvals: 2, longest: '2h', mfa: '15m', automatic: false, reason: true },
  },
  repositories: [{ match: ['acme/payments'], class: 'critical', mode: 'enforce' }],
  requests: [
    {
      name: 'main',
      description: 'a rule',
      trigger: ['push'],
      repositories: ['acme/*'],
      class: ['critical'],
      refs: ['main'],
      paths: { only: ['docs/**'], never: ['.github/**'] },
      who: ['payments'],
      when: 'window <= 1800',
      final: true,
      approvers: { steps: [{ any_of: ['leads'] }, { all_of: ['leads', 'security'] }, { n: 2, of: ['leads'] }, 'x'] },
      window: { longest: '4h', default: '1h', beyond: 'clip' },
      timeout: '2 hours',
      revoke_on_idle: '45m',
      reason: { pattern: '.{10,}', example: 'why' },
      ticket: { pattern: 'PAY-[0-9]+', example: 'PAY-1' },
      mfa: '15m',
      networks: ['10.0.0.0/8'],
      hours: [{ days: ['mon'], from: '09:00', to: '18:00', zone: 'Europe/Berlin' }],
      auto_request: { wait: '5m' },
      escalate: { after: '20m', to: ['directors'] },
      budget: { uses: 3, bytes: '2GB' },
      recurring: { hours: { days: 'mon', from: '09:00', to: '12:00', zone: 'Europe/Berlin' }, longest: '4 weeks' },
      mode: 'enforce',
    },
    {
      trigger: 'clone',
      automatic: { on_call: 'payments', quota: '3 per day' },
      approvers: ['leads'],
      single_use: true,
    },
    { trigger: 'everything', break_glass: { review: 'security', within: '24h' } },
    { trigger: 'delete', forbid: 'never' },
    { trigger: 'merge to main', opens: ['clone'], until: 'deploy', automatic: true },
  ],
}

const WRONG: readonly unknown[] = [null, 17.5, '?!', [], {}, { zzz: 1 }]
const MARK = '"@@"'
/** What a library says of itself, which helps nobody. */
const NO_FORM = /Invalid|Too (?:small|big|short|long)|Unrecognized|undefined|\[object|NaN/
const FORM =
  /expected |such as |is not an? |did you mean|known here: |at most |more than |names no action|; add |missing; /

type Step = string | number

function* steps(value: unknown, above: readonly Step[] = []): Generator<readonly Step[]> {
  if (above.length > 0) yield above
  if (typeof value !== 'object' || value === null) return
  for (const [key, inner] of Object.entries(value))
    yield* steps(inner, [...above, Array.isArray(value) ? Number(key) : key])
}

/** The part of the whole that the path leads to, with one thing else at its end, and the place of that. */
function having(path: readonly Step[], wrong: unknown): { text: string; line: number; column: number } {
  const [section, entry] = path as [keyof typeof WHOLE, Step | undefined]
  const { version, classes } = WHOLE
  const rules = section === 'requests' && entry !== undefined ? { requests: [WHOLE.requests[Number(entry)]] } : {}
  const part: unknown = structuredClone({ version, classes, [section]: WHOLE[section], ...rules })
  const steps = section === 'requests' && entry !== undefined ? [section, 0, ...path.slice(2)] : path
  const holder = steps.slice(0, -1).reduce<unknown>((inner, step) => Reflect.get(inner as object, step), part)
  Reflect.set(holder as object, steps.at(-1)!, '@@')
  const text = JSON.stringify(part, undefined, 2)
  const before = text.slice(0, text.indexOf(MARK)).split('\n')
  return {
    text: text.replace(MARK, () => JSON.stringify(wrong)),
    line: before.length,
    column: before.at(-1)!.length + 1,
  }
}

function problemsOf(text: string): readonly PolicyProblem[] {
  try {
    loadPolicy([{ file: 'policy.yaml', text }])
    return []
  } catch (error) {
    if (error instanceof PolicyError) return error.problems
    throw error
  }
}

test('every field that is wrong is told with its file, line, column and what is accepted there', () => {
  expect(problemsOf(JSON.stringify(WHOLE))).toEqual([])
  const unsaid: string[] = []
  for (const path of steps(WHOLE)) {
    let refused = 0
    for (const wrong of WRONG) {
      const { text, line, column } = having(path, wrong)
      const problems = problemsOf(text)
      if (problems.length === 0) continue
      refused++
      const there = problems.filter(problem => problem.line === line && problem.column >= column)
      const said = `${path.join('.')} = ${JSON.stringify(wrong).slice(0, 40)}: `
      if (there.length === 0)
        unsaid.push(
          `${said}not at ${line}:${column} but ${problems.map(({ line, column, message }) => `${line}:${column} ${message}`)}`,
        )
      for (const { file, message } of there) {
        if (file !== 'policy.yaml' || NO_FORM.test(message) || !FORM.test(message)) unsaid.push(`${said}${message}`)
      }
    }
    if (refused < 3) unsaid.push(`${path.join('.')}: only ${refused} of ${WRONG.length} wrong values are refused`)
  }
  expect(unsaid).toEqual([])
})

test('and these are all the fields there are', () => {
  const named = new Set([...steps(WHOLE)].map(path => path.at(-1)))
  const missing = new Set<string>()
  const look = (schema: unknown): void => {
    if (typeof schema !== 'object' || schema === null) return
    for (const key of Object.keys((schema as { properties?: object }).properties ?? {}))
      if (!named.has(key)) missing.add(key)
    for (const inner of Object.values(schema)) look(inner)
  }
  look(JSON.parse(policyJsonSchema()))
  expect([...missing]).toEqual([])
})
