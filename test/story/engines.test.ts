import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseHead, readPublicKeys } from '../../audit/head.ts'
import { HEAD_KEY_FILE, HEADS_FILE } from '../../audit/main.ts'
import { readIndexed } from '../../audit/read.ts'
import type { Record as AuditRecord } from '../../audit/record.ts'
import { verifyLedger } from '../../audit/verify.ts'
import { fill } from '../../bench/fill.ts'
import type { Grant } from '../../grant/grant.ts'
import { type GateProcess, startGateProcess } from '../support/gateprocess.ts'
import { change, changesBelow, cloneRepository, commitFile, git, makeRepository } from '../support/git.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// Everything is killed under load: a proxy, the ledger writer, PostgreSQL and Redis in turn. The gate may refuse; it may not forget, and not invent.
// STORY_LARGE=1 does it for a minute; with STORY_PUBLISH=1 its figures go into docs/figures.md and the README.

const MILLISECONDS = process.env.STORY_LARGE ? 60_000 : 6_000
const KILLED = ['proxy', 'ledger', 'postgres', 'redis'] as const

let stand: Stand
/** The second one is killed. */
let gates: [GateProcess, GateProcess]
let bare: string
let state: string
let writer: Program
let grants: Grant[]
const clones: string[] = []

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { config: { 'core.logAllRefUpdates': 'always' } })
  for (let n = 0; n < 3; n++) clones.push(await cloneRepository(bare))
  const window = { repository: 'local/acme/app', expires: Date.now() + 3_600_000 }
  grants = [await stand.grant(window)]
  state = temporaryFolder('ledger')
  writer = await startWriter()
  gates = [await startGateProcess(stand, { name: 'steady' }), await startGateProcess(stand, { name: 'killed' })]
})
afterAll(async () => {
  await Promise.all((gates ?? []).map(({ program }) => program.stop()))
  await writer?.stop('SIGKILL')
  await stand?.close()
})

async function startWriter(): Promise<Program> {
  const file = new URL('../support/ledger-process.ts', import.meta.url).pathname
  return await startProgram(process.execPath, [file, stand.postgres.url, state])
}

const KILL = {
  proxy: async () => {
    await gates[1].program.stop('SIGKILL')
    gates[1] = await startGateProcess(stand, { name: 'killed' })
  },
  ledger: async () => {
    await writer.stop('SIGKILL')
    const before = await linked()
    writer = await startWriter()
    await until(async () => (await linked()) > before, 'the next record in the chain', 20_000)
  },
  postgres: async () => {
    await stand.postgres.kill()
    await after(300)
    await stand.postgres.restart()
  },
  // It comes back empty, and opens nothing until the control plane, here the story, has put back what should be there.
  redis: async () => {
    const keys = await stand.store.tokenKeys()
    await stand.redis.kill()
    await after(300)
    await stand.redis.restart()
    await until(async () => {
      const doubt = await stand.store.doubt()
      if (keys !== undefined) await stand.store.putTokenKeys(keys)
      const { fingerprint } = stand.key
      await stand.store.putKey({ fingerprint, principal: 'alice', expires: Date.now() + 3_600_000 })
      for (const grant of grants) await stand.store.put(grant)
      await stand.store.confirm(doubt)
      return true
    }, 'Redis to be as it was')
  },
} as const

const linked = async () => Number((await stand.sql`select seq from audit.chain`)[0]?.seq)

const kindOf = <Kind extends AuditRecord['kind']>(records: readonly AuditRecord[], kind: Kind) =>
  records.filter((record): record is Extract<AuditRecord, { kind: Kind }> => record.kind === kind)

test(
  'with a proxy, the ledger writer, PostgreSQL and Redis killed in turn under load, nothing happens unrecorded, once each, and the chain verifies',
  async () => {
    let over = false
    const told: string[] = []
    let refused = 0
    const pushing = clones.map(async (work, worker) => {
      for (let turn = 0; !over; turn++) {
        const gate = gates[(turn >> 1) % 2]!
        const { url, env } = await stand.remote(turn % 2 ? 'http' : 'ssh', 'local/acme/app', gate)
        const ref = `refs/heads/engines/${worker}-${turn}`
        await commitFile(work)
        const { status } = await git(['push', '-q', url, `HEAD:${ref}`], { cwd: work, env })
        if (status === 0) told.push(ref)
        else refused++
      }
    })
    const deadline = performance.now() + MILLISECONDS
    const kills: { readonly of: (typeof KILLED)[number]; readonly seconds: number }[] = []
    for (let n = 0; performance.now() < deadline || n < KILLED.length; n++) {
      await after(Math.random() * 1_000)
      const of = KILLED[n % KILLED.length]!
      const began = performance.now()
      await KILL[of]()
      kills.push({ of, seconds: (performance.now() - began) / 1_000 })
    }
    const before = told.length
    await until(() => told.length > before, 'a push after all that', 20_000)
    over = true
    await Promise.all(pushing)

    // What is under way comes to its end, and the inbox runs empty.
    const records = await until(
      async () => {
        const all = await stand.records({ underway: true })
        const [{ waiting } = { waiting: 1 }] = await stand.sql<{ waiting: number }[]>`
          select count(*)::int as waiting from audit.inbox`
        return waiting === 0 && kindOf(all, 'operation.start').length === kindOf(all, 'operation.end').length && all
      },
      'every start to have its end in the chain',
      60_000,
    )
    const starts = kindOf(records, 'operation.start')
    const ends = kindOf(records, 'operation.end')

    const recorded = new Set(
      starts.flatMap(({ updates = [] }) => updates.map(each => change(each.ref, each.old, each.new))),
    )
    const unrecorded = changesBelow(bare, 'engines').filter(each => !recorded.has(each))
    expect(unrecorded).toEqual([])
    const sorted = (list: readonly { readonly operation: string }[]) => list.map(({ operation }) => operation).sort()
    expect(new Set(sorted(starts)).size).toBe(starts.length)
    expect(sorted(ends)).toEqual(sorted(starts))
    const landed = new Set(changesBelow(bare, 'engines').map(each => each.split(' ')[0]))
    const lost = told.filter(ref => !landed.has(ref))
    expect(lost).toEqual([])

    const heads = readFileSync(join(state, HEADS_FILE), 'utf8').trim().split('\n').map(parseHead)
    const keys = await readPublicKeys(join(state, `${HEAD_KEY_FILE}.pub`))
    const verdict = await verifyLedger({ entries: readIndexed(stand.sql), heads, keys })
    expect(verdict).toMatchObject({ ok: true, fault: undefined, gaps: [] })
    expect(verdict.records).toBe(records.length)
    expect(verdict.vouched).toBeGreaterThan(0)
    // The kills hit something, and something went through.
    expect(refused).toBeGreaterThan(0)
    expect(told.length).toBeGreaterThan(3)

    if (process.env.STORY_PUBLISH) publish({ operations: starts.length, landed: landed.size, refused, kills })
  },
  MILLISECONDS + 140_000,
)

interface Figures {
  readonly operations: number
  readonly landed: number
  readonly refused: number
  readonly kills: readonly { readonly of: (typeof KILLED)[number]; readonly seconds: number }[]
}

/** Writes down what happened. Nothing was lost or doubled, or the test would have failed before. */
function publish({ operations, landed, refused, kills }: Figures): void {
  const slowest = (of: readonly { readonly seconds: number }[]) =>
    `${Math.max(...of.map(each => each.seconds)).toFixed(1)} s`
  const load = `${MILLISECONDS / 1_000} s`
  const rows = [
    ['under load', load],
    ['operations begun', String(operations)],
    ['pushes that landed', String(landed)],
    ['pushes refused or broken off meanwhile', String(refused)],
    ...KILLED.map(name => {
      const own = kills.filter(({ of }) => of === name)
      return [`kills of ${name}; the slowest to be ready again`, `${own.length}; ${slowest(own)}`]
    }),
    ['changes on the host without a start record', '0'],
    ['pushes told as landed that had not', '0'],
    ['starts or ends there twice, starts without an end', '0'],
    ['gaps in the numbering, faults of the chain', '0'],
  ]
  const table = ['| what | figure |', '|---|---|', ...rows.map(row => `| ${row.join(' | ')} |`)]
  fill('docs/figures.md', 'engines', table.join('\n'))
  const line =
    `${load} under load, a proxy, the ledger writer, PostgreSQL and Redis killed (\`kill -9\`) ${kills.length} times in turn: ${operations} operations, 0 lost, ` +
    `0 doubled, the chain and its numbering verify; the slowest was ready again after ${slowest(kills)}. More in [figures.md](docs/figures.md#killed-under-load).`
  fill('README.md', 'engines', line)
}
