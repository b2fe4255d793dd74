import type { KeyObject } from 'node:crypto'
import { type Boundary, peaksAt, type RunEnd, verifyBoundary } from './boundary.ts'
import { canonical } from './canonical.ts'
import { BEGINNING, type Fault, faultOf, type Linked } from './chain.ts'
import { facets } from './facets.ts'
import { type Head, keyId, verifyHead } from './head.ts'
import { GrowingTree } from './merkle.ts'
import type { Indexed } from './read.ts'

export interface VerifyOptions {
  /** The ledger from its first record, in order: from the database (`readIndexed`) or an export (`parseExport`). */
  readonly entries: AsyncIterable<readonly (Linked | Indexed)[]>
  /** Heads from where the database's owner cannot reach: a published file, a log archive, a webhook's receiver. */
  readonly heads: Iterable<Head>
  /** The public keys heads may be signed with, from a source as safe. */
  readonly keys: readonly KeyObject[]
  /** Where the ledger was parted by retention; `entries` then begin behind it. */
  readonly boundary?: Boundary | undefined
  /** Where they have to end: the boundary behind a part that retention exported. */
  readonly through?: Boundary | undefined
}

/** What is wrong, and between which records: `seq` is the first that cannot be trusted. */
export interface Finding extends Fault {
  /** The last record of the range that the fault lies in, where it cannot be told more closely. */
  readonly through?: number
}

/** Numbers of a proxy's run that never reached the ledger, by the ledger's own word. */
export interface Gap {
  readonly seq: number
  readonly proxy: string
  readonly boot: string
  readonly from: number
  readonly to: number
}

export interface Verdict {
  readonly ok: boolean
  /** The first record there is: 1, or the one behind the boundary that retention signed. */
  readonly begins: number
  /** Up to which record everything is there and good, from the beginning. */
  readonly records: number
  /** Up to which record a signed head vouches. After it a rewrite by the database's owner would not be seen. */
  readonly vouched: number
  readonly heads: number
  readonly fault: Finding | undefined
  /** The ledger is whole, and says that these were lost before they reached it. */
  readonly gaps: readonly Gap[]
}

/**
 * Checks everything that can be checked: each record's form and link, that no sequence number is missing at either end or between, each
 * run's own numbering, that index columns say what the record says, each head's signature, and that each head's hash and Merkle
 * root are those of the records. Stops at the first fault, which it names; everything before stands.
 */
export async function verifyLedger(options: VerifyOptions): Promise<Verdict> {
  return (await verifyPart(options)).verdict
}

/** What stands at the end of what was verified: enough to go on behind it. */
export interface PartEnd {
  readonly seq: number
  readonly hash: string
  readonly recorded: string
  readonly tree: GrowingTree
  readonly runs: readonly RunEnd[]
}

/** The same, with what stands at its end. */
export async function verifyPart(
  options: VerifyOptions,
): Promise<{ readonly verdict: Verdict; readonly end: PartEnd }> {
  const { entries, heads, keys, boundary, through } = options
  const sorted = [...heads].sort((a, b) => a.seq - b.seq)
  const forged = sorted.find(head => !verifyHead(head, keys))
  const numbering = numberings(boundary?.runs)
  const tree = new GrowingTree(boundary && peaksAt(boundary))
  let before: Pick<Linked, 'seq' | 'hash' | 'recorded'> = boundary ?? BEGINNING
  // Whoever signs boundaries signs heads: it vouches for what was up to there.
  let vouched = before.seq
  // Heads over what is not here any more can be compared at the boundary at most.
  let next = sorted.findIndex(({ seq }) => seq > before.seq)
  if (next < 0) next = sorted.length

  const verdict = (fault?: Finding) => ({
    verdict: judged(fault),
    end: { ...end(before), tree, runs: numbering.ends() },
  })
  const judged = (fault?: Finding): Verdict => ({
    ok: fault === undefined,
    begins: (boundary?.seq ?? 0) + 1,
    records: before.seq,
    vouched,
    heads: next,
    fault,
    gaps: numbering.gaps,
  })

  if (forged) return verdict(forgedFinding(forged, keys))
  if (boundary && !verifyBoundary(boundary, keys)) return verdict(cutFinding(boundary))
  const parted = boundary && sorted.find(({ seq }) => seq === boundary.seq)
  if (parted && (parted.hash !== boundary.hash || parted.root !== tree.root().toString('hex')))
    return verdict({ seq: boundary.seq, what: `the boundary is not what was signed on ${parted.time}` })
  for await (const page of entries) {
    for (const entry of page) {
      const fault = faultOf(before, entry) ?? columnsFault(entry) ?? numbering.fault(entry)
      if (fault) return verdict(fault)
      tree.add(Buffer.from(entry.hash, 'hex'))
      for (; sorted[next]?.seq === entry.seq; next++) {
        const finding = headFault(sorted[next]!, entry, tree, vouched)
        if (finding) return verdict(finding)
        vouched = entry.seq
      }
      before = entry
    }
  }
  const missing = sorted.at(-1)
  if (missing && missing.seq > before.seq) {
    const what = `missing: the ledger ends here, but a head of ${missing.time} was signed over ${missing.seq} records`
    return verdict({ seq: before.seq + 1, through: missing.seq, what })
  }
  if (through) {
    const fault = endFault(through, before, tree, keys)
    if (fault) return verdict(fault)
    vouched = through.seq
  }
  return verdict()
}

const end = ({ seq, hash, recorded }: Pick<Linked, 'seq' | 'hash' | 'recorded'>) => ({ seq, hash, recorded })

function cutFinding({ from, seq, key }: Boundary): Finding {
  const what = `missing: the boundary that says that retention took them is not validly signed by a trusted key (${key})`
  return { seq: from, through: seq, what }
}

/** A part that was exported ends where the boundary says, with its hash and its tree. */
function endFault(
  through: Boundary,
  before: Pick<Linked, 'seq' | 'hash'>,
  tree: GrowingTree,
  keys: readonly KeyObject[],
): Finding | undefined {
  if (!verifyBoundary(through, keys)) return cutFinding(through)
  if (before.seq < through.seq)
    return { seq: before.seq + 1, through: through.seq, what: 'missing: the part ends here, and was signed to its end' }
  const same = before.hash === through.hash && tree.root().equals(new GrowingTree(peaksAt(through)).root())
  return before.seq === through.seq && same
    ? undefined
    : { seq: through.from, through: before.seq, what: `not what was signed when it was exported on ${through.time}` }
}

function forgedFinding(head: Head, keys: readonly KeyObject[]): Finding {
  const known = keys.some(key => keyId(key) === head.key)
  const what = known
    ? `the head of ${head.time} over ${head.seq} records does not bear a valid signature of ${head.key}`
    : `the head of ${head.time} over ${head.seq} records is signed by ${head.key}, which is not a trusted key`
  return { seq: head.seq, what }
}

/** The chain holds up to here, and yet it is not the chain that was signed: all of it was made anew. */
function headFault(head: Head, entry: Linked, tree: GrowingTree, vouched: number): Finding | undefined {
  const same = head.hash === entry.hash && head.root === tree.root().toString('hex')
  if (same) return undefined
  const range = vouched + 1 === entry.seq ? `record ${entry.seq} is` : `records ${vouched + 1} to ${entry.seq} are`
  const what = `${range} not what was signed on ${head.time}: history was rewritten, and its hashes with it`
  return { seq: vouched + 1, through: entry.seq, what }
}

function columnsFault(entry: Linked | Indexed): Fault | undefined {
  if (!('indexed' in entry)) return undefined
  const said = facets(entry.record)
  for (const name of Object.keys(said) as (keyof typeof said)[]) {
    // Most are words, and a list is equal only by what is in it.
    if (said[name] === entry.indexed[name] || canonical(said[name]) === canonical(entry.indexed[name])) continue
    return {
      seq: entry.seq,
      what: `its index column ${name} does not say what the record says; searches do not find it`,
    }
  }
  return undefined
}

/** Follows the numbers each run gave its records: 1, 2, 3 …, save where the ledger itself wrote down a gap. */
function numberings(before: readonly RunEnd[] = []) {
  const runs = new Map<string, { last: number; late: Set<number> }>()
  for (const [proxy, boot, last] of before) runs.set(`${proxy}\n${boot}`, { last, late: new Set() })
  const gaps: Gap[] = []

  function runOf(proxy: string, boot: string) {
    const key = `${proxy}\n${boot}`
    const run = runs.get(key) ?? { last: 0, late: new Set<number>() }
    runs.set(key, run)
    return run
  }

  function fault(entry: Linked): Fault | undefined {
    const { seq, proxy, boot, n, record } = entry
    const run = runOf(proxy, boot)
    // A gap's records may come after all, from a spool that was thought lost.
    const late = run.late.delete(n)
    if (!late && n !== run.last + 1) {
      return {
        seq,
        what: `record ${n} of ${proxy} (run ${boot}) follows its record ${run.last}: what lay between was taken out`,
      }
    }
    run.last = Math.max(run.last, n)
    if (record.kind === 'ledger.gap') {
      const { from, to } = record
      gaps.push({ seq, proxy: record.proxy, boot: record.boot, from, to })
      const broken = runOf(record.proxy, record.boot)
      for (let lost = from; lost <= Math.min(to, from + LATE_MAX); lost++) broken.late.add(lost)
      broken.last = Math.max(broken.last, to)
    }
    return undefined
  }

  const ends = (): RunEnd[] =>
    [...runs].map(([key, { last }]) => {
      const [proxy = '', boot = ''] = key.split('\n')
      return [proxy, boot, last]
    })

  return { gaps, fault, ends }
}

/** Of one gap so many numbers are remembered in case they come late. */
const LATE_MAX = 100_000
