import { evaluate, type Question } from '../config/evaluate.ts'
import { loadPolicy, type PolicySource } from '../config/policy/load.ts'
import { percentile } from './case.ts'

/**
 * 10,000 rules over 1,000 groups: how long loading takes, and a decision. `node bench/policy.ts [--json]`. On a busy machine
 * the time on the clock says little of loading; what it took of a core says more.
 *
 * Three askers: one whose rule is found by the repository's name, one whom no rule names, and the worst there is: ten
 * thousand rules that all speak of the same repositories and differ only in whom they name.
 */

const RULES = 10_000
const GROUPS = 1_000
const FILES = 10
const LOADS = 5
const DECISIONS = 2_000
const NOW = Date.parse('2026-11-18T10:00:00Z')

const spread = (index: number) => `  - name: rule-${index}
    trigger: push
    repositories: acme/team-${index % GROUPS}/repo-${index}
    who: team-${index % GROUPS}
    approvers: leads-${index % GROUPS}
    timeout: 2 hours
    revoke_on_idle: true
`
const alike = (index: number) => `  - name: rule-${index}
    trigger: push
    repositories: acme/**
    who: team-${index % GROUPS}-${index}
    approvers: leads-${index % GROUPS}
    timeout: 2 hours
    revoke_on_idle: true
`

function folder(rule: (index: number) => string): PolicySource[] {
  const each = RULES / FILES
  return Array.from({ length: FILES }, (_, file) => {
    const groups = Array.from({ length: GROUPS / FILES }, (_, i) => `  local-${file}-${i}: [dana, raj]\n`).join('')
    const rules = Array.from({ length: each }, (_, i) => rule(file * each + i)).join('')
    return { file: `${file}.yaml`, text: `version: 1\ngroups:\n${groups}requests:\n${rules}` }
  })
}

function time(
  runs: number,
  run: (index: number) => void,
  clock = () => performance.now(),
): { median: number; p99: number } {
  const taken: number[] = []
  for (let i = 0; i < runs; i++) {
    const start = clock()
    run(i)
    taken.push(clock() - start)
  }
  taken.sort((a, b) => a - b)
  return { median: percentile(taken, 0.5), p99: percentile(taken, 0.99) }
}

const sources = folder(spread)
const bytes = sources.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
const loading = time(LOADS, () => loadPolicy(sources))
const computing = time(
  LOADS,
  () => loadPolicy(sources),
  () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  },
)
const policy = loadPolicy(sources)
const crowded = loadPolicy(folder(alike))

const member: Question = {
  principal: 'dana',
  kind: 'person',
  groups: Array.from({ length: GROUPS }, (_, i) => `team-${i}`),
  action: 'update',
  repository: 'acme/api',
  refs: ['refs/heads/main'],
}
const ask = (from: typeof policy, question: Question) => evaluate(from, question, { grants: [] }, NOW)
const at = (index: number) => (index * 7919) % RULES

const figures = {
  rules: RULES,
  groups: GROUPS,
  'policy bytes': bytes,
  'load, median ms': loading.median,
  'load, median ms of a core': computing.median,
  'decision, its own rule': time(DECISIONS, i =>
    ask(policy, { ...member, repository: `acme/team-${at(i) % GROUPS}/repo-${at(i)}` }),
  ),
  'decision, no rule': time(DECISIONS, () => ask(policy, { ...member, repository: 'globex/api' })),
  'decision, 10,000 rules on one repository': time(DECISIONS / 10, i =>
    ask(crowded, { ...member, groups: [`team-${at(i) % GROUPS}-${at(i)}`, ...member.groups] }),
  ),
}

if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(figures)}\n`)
else {
  for (const [name, figure] of Object.entries(figures)) {
    const text =
      typeof figure === 'number'
        ? Math.round(figure).toLocaleString('en')
        : `${figure.median.toFixed(3)} ms median, ${figure.p99.toFixed(3)} ms p99`
    process.stdout.write(`${name.padEnd(44)}${text}\n`)
  }
}
