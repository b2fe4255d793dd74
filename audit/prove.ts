import type { Sql } from 'postgres'
import { type Boundary, peaksAt, storedBoundary } from './boundary.ts'
import {
  consistencyRanges,
  halves,
  inclusionRanges,
  leafHash,
  nodeHash,
  type Range,
  rangeRoot,
  SUBTREE_LEVEL_MIN,
} from './merkle.ts'

// Proofs of RFC 9162 out of the database: of each subtree the kept root where there is one, else computed from the records.

/** The records a proof needs are not there (any more). */
export class Unprovable extends Error {
  readonly code = 'ERR_LEDGER_UNPROVABLE'
}

/** Shows that record `seq` is among those that a head over `size` records vouches for; hashes in hex, lowest first. */
export async function inclusion(sql: Sql, seq: number, size: number): Promise<string[]> {
  return await hashes(sql, inclusionRanges(seq - 1, size))
}

/** Shows that the ledger of `first` records is the beginning of the one of `second`. */
export async function consistency(sql: Sql, first: number, second: number): Promise<string[]> {
  return await hashes(sql, consistencyRanges(first, second))
}

async function hashes(sql: Sql, ranges: readonly Range[]): Promise<string[]> {
  const boundary = await storedBoundary(sql)
  const proof: string[] = []
  for (const range of ranges) proof.push((await rootOf(sql, range, boundary)).toString('hex'))
  return proof
}

async function rootOf(sql: Sql, range: Range, boundary: Boundary | undefined): Promise<Buffer> {
  const leaves = range.to - range.from
  const level = Math.log2(leaves)
  if (Number.isInteger(level) && range.from % leaves === 0 && level >= SUBTREE_LEVEL_MIN) {
    const [kept] = await sql<{ hash: Buffer }[]>`
      select hash from audit.subtree where level = ${level} and place = ${range.from / leaves}`
    if (kept) return kept.hash
  }
  const dropped = boundary?.seq ?? 0
  if (boundary && range.to <= dropped) return peakAt(boundary, range)
  const present = range.from >= dropped
  if (present && leaves <= 2 ** SUBTREE_LEVEL_MIN)
    return rangeRoot(await leafHashes(sql, range), { from: 0, to: leaves })
  const [left, right] = halves(range)
  return nodeHash(await rootOf(sql, left, boundary), await rootOf(sql, right, boundary))
}

/** A subtree at the boundary of retention. A proof for what remains takes no smaller ones from before it. */
function peakAt(boundary: Boundary, { from, to }: Range): Buffer {
  const { size, roots } = peaksAt(boundary)
  let start = 0
  for (const root of roots) {
    const leaves = 2 ** Math.floor(Math.log2(size - start))
    if (start === from && start + leaves === to) return root
    start += leaves
  }
  throw new Unprovable(`records ${from + 1} to ${to} were taken out by retention: the archive has them`)
}

async function leafHashes(sql: Sql, { from, to }: Range): Promise<Buffer[]> {
  const rows = await sql<{ hash: Buffer }[]>`
    select hash from audit.record where seq > ${from} and seq <= ${to} order by seq`
  if (rows.length !== to - from) throw new Unprovable(`records ${from + 1} to ${to} are not all in the database`)
  return rows.map(({ hash }) => leafHash(hash))
}
