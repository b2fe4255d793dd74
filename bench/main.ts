import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ssh2State } from '../proxy/ssh/patched.ts'
import { gitOk } from '../test/support/git.ts'
import setup from '../test/support/setup.ts'
import type { Bench, Case } from './case.ts'
import { clones20 } from './cases/clones20.ts'
import { connections } from './cases/connections.ts'
import { ledger, policy } from './cases/parts.ts'
import { replayed } from './cases/replayed.ts'
import { infoRefs } from './cases/requests.ts'
import { idle, revoke } from './cases/sessions.ts'
import { atOnce, lsRemote, smallPush } from './cases/small.ts'
import { clone, push } from './cases/whole.ts'
import { fill } from './fill.ts'
import { picture } from './picture.ts'
import { startStand } from './stand.ts'
import { type Figure, figureTable, type Goal, goalTable } from './table.ts'

/** `idle` first: in a proxy that has done much, what a session needs is found in memory that others left. */
const CASES: readonly Case[] = [
  ...[
    idle,
    clone,
    push,
    replayed,
    lsRemote,
    smallPush,
    atOnce,
    infoRefs,
    connections,
    revoke,
    clones20,
    policy,
    ledger,
  ],
]

const HELP = `The figures of the README: the same work through each way in turn, round after round, in one run on one machine.

  npm run bench                       1 GB, five rounds; into the README, docs/figures.md and docs/bench.svg
  npm run bench -- --rounds 3 --megabytes 250   the same, sooner
  npm run bench -- --quick            24 MB, two rounds, under three minutes; only printed
  npm run bench -- --only clone,push  some of it; only printed

cases: ${CASES.map(({ name }) => name).join(', ')}
`
const ROOT = fileURLToPath(new URL('..', import.meta.url))

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    megabytes: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (options.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const only = options.only?.split(',')
const unknown = only?.filter(name => !CASES.some(each => each.name === name)) ?? []
if (unknown.length > 0) {
  process.stderr.write(`bench: no such case: ${unknown.join(', ')}\n\n${HELP}`)
  process.exit(2)
}
const { quick } = options
const rounds = whole('rounds', quick ? 2 : 5)
const bytes = whole('megabytes', quick ? 24 : 1000) * 1e6
const began = performance.now()
const say = (text: string) => process.stderr.write(`bench ${clock()}: ${text}\n`)

const takeDown = await setup()
// What was started ends with this process, by itself.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    takeDown()
    process.exit(1)
  })
}
say('starting nginx, sshd, redis, postgres and four proxies')
const stand = await startStand()
const bench: Bench = { stand, quick, say, bytes, rounds }
const { patched, nativeCrypto } = ssh2State()
const machine = [
  `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
  `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
  `node ${process.versions.node}`,
  (await gitOk(['--version'])).replace('git version', 'git').trim(),
  `ssh2 ${patched ? 'patched' : 'NOT patched'}, native crypto ${nativeCrypto ? 'loaded' : 'NOT loaded'}`,
].join(', ')
const heading = `${machine}; ${bench.bytes / 1e6} MB; medians of ${bench.rounds} interleaved rounds.`

const figures: Figure[] = []
const goals: Goal[] = []
try {
  for (const each of CASES) {
    if (only && !only.includes(each.name)) continue
    const results = await each.run(bench)
    figures.push(...results.figures)
    goals.push(...results.goals)
    // After each, so that a run that is broken off has not measured for nothing.
    if (!only && !quick) publish()
  }
} finally {
  await stand.stop()
  takeDown()
}
process.stdout.write([heading, '', goalTable(goals), '', figureTable(figures), ''].join('\n'))
process.exit(0)

function publish(): void {
  fill('README.md', 'bench', [heading, '', goalTable(goals)].join('\n'))
  fill('docs/figures.md', 'bench', [heading, '', figureTable(figures)].join('\n'))
  writeFileSync(join(ROOT, 'docs/bench.svg'), picture(figures, heading))
}

function whole(name: 'rounds' | 'megabytes', fallback: number): number {
  const given = Number(options[name] ?? fallback)
  if (Number.isInteger(given) && given >= 1) return given
  process.stderr.write(`bench: --${name} wants a whole number, not ${options[name]}\n`)
  process.exit(2)
}

function clock(): string {
  const seconds = Math.round((performance.now() - began) / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
