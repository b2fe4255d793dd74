import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Record as AuditRecord } from '../../audit/record.ts'
import { type GateProcess, startGateProcess } from '../support/gateprocess.ts'
import { change, changesBelow, cloneRepository, commitFile, git, makeRepository, noise } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// A proxy that is killed in mid-work, again and again. Its host and its ledger live on, and must agree afterwards.

const KILLS = process.env.STORY_LARGE ? 50 : 10
/** About five pushes long. */
const LOAD_MILLISECONDS_MAX = 1_500
const UPSTREAMS = ['local', 'web', 'ssh1'] as const
const TRANSPORTS = ['http', 'ssh'] as const

let stand: Stand
let bare: string
const clones: string[] = []

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), {
    bytes: 2 << 20,
    // What was applied, even where it was undone later.
    config: { 'core.logAllRefUpdates': 'always' },
  })
  for (let n = 0; n < 3; n++) clones.push(await cloneRepository(bare))
  for (const upstream of UPSTREAMS)
    await stand.grant({ repository: `${upstream}/acme/app`, expires: Date.now() + 3_600_000 })
})
afterAll(() => stand?.close())

interface Load {
  /** Refs that git said were pushed. */
  readonly told: string[]
  stop(): Promise<void>
}

/** Pushes and clones at a gate without a pause, over both transports, until it is stopped; what fails is tried no more. */
function load(gate: GateProcess, round: number): Load {
  const told: string[] = []
  let over = false
  let n = 0
  const next = () => {
    n++
    return { transport: TRANSPORTS[n % 2]!, repository: `${UPSTREAMS[n % 3]}/acme/app` }
  }
  const pushing = async (work: string, worker: number) => {
    for (let turn = 0; !over; turn++) {
      const { transport, repository } = next()
      const { url, env } = await stand.remote(transport, repository, gate)
      const ref = `refs/heads/kill/${round}-${worker}-${turn}`
      // Now a pack that takes its time, now one that is through at once.
      if (turn % 2)
        await commitFile(work, 'noise', noise(1 << 18, round * 1_000 + worker * 100 + turn).toString('base64'))
      else await commitFile(work)
      const { status } = await git(['push', '-q', url, `HEAD:${ref}`], { cwd: work, env })
      if (status === 0) told.push(ref)
    }
  }
  const cloning = async () => {
    while (!over) {
      const { transport, repository } = next()
      const { url, env } = await stand.remote(transport, repository, gate)
      const folder = join(temporaryFolder('clone'), 'bare.git')
      await git(['clone', '-q', '--bare', '--single-branch', url, folder], { env })
    }
  }
  const all = Promise.all([...clones.map(pushing), cloning()])
  return {
    told,
    stop: async () => {
      over = true
      await all
    },
  }
}

const operationsOf = <Kind extends AuditRecord['kind']>(records: readonly AuditRecord[], kind: Kind) =>
  records.filter((record): record is Extract<AuditRecord, { kind: Kind }> => record.kind === kind)

test(
  `killed ${KILLS} times under load, what the host applied was recorded, and every operation has one start and one end`,
  async () => {
    const told: string[] = []
    for (let round = 0; round < KILLS; round++) {
      const gate = await startGateProcess(stand, { name: 'killed' })
      const under = load(gate, round)
      // Now somewhere in its first operations, now when some have come to their end.
      if (round % 2) await until(() => under.told.length > 0, 'a push to land', 120_000)
      await after(Math.random() * LOAD_MILLISECONDS_MAX)
      await gate.program.stop('SIGKILL')
      await under.stop()
      told.push(...under.told)
    }
    // The same proxy once more: it finds what the last run left open.
    const last = await startGateProcess(stand, { name: 'killed' })
    const records = await stand.records()
    const starts = operationsOf(records, 'operation.start')
    const ends = operationsOf(records, 'operation.end')

    const changes = changesBelow(bare, 'kill')
    const recorded = new Set(
      starts.flatMap(({ updates = [] }) => updates.map(each => change(each.ref, each.old, each.new))),
    )
    expect(changes.filter(each => !recorded.has(each))).toEqual([])

    const sorted = (list: readonly { readonly operation: string }[]) => list.map(({ operation }) => operation).sort()
    expect(new Set(sorted(starts)).size).toBe(starts.length)
    expect(sorted(ends)).toEqual(sorted(starts))

    // Nobody was told of a success that was none: neither git, nor the record.
    const landed = new Set(changes.map(each => each.split(' ')[0]))
    expect(told.filter(ref => !landed.has(ref))).toEqual([])
    const called = ends.flatMap(({ updates = [] }) => updates.filter(({ result }) => result === 'ok'))
    expect(called.filter(each => !changes.includes(change(each.ref, each.old, each.new)))).toEqual([])

    // The kills hit something.
    expect(ends.filter(({ result }) => result === 'interrupted').length).toBeGreaterThan(0)
    expect(ends.filter(({ result }) => result === 'ok').length).toBeGreaterThanOrEqual(KILLS / 2)
    await last.program.stop()
  },
  KILLS * 60_000,
)
