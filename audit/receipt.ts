import type { KeyObject } from 'node:crypto'
import type { Sql } from 'postgres'
import { storedHeadOver } from './append.ts'
import { storedBoundary } from './boundary.ts'
import { GENESIS, type Linked, linkOf } from './chain.ts'
import { type Head, keyId, parseHead, verifyHead } from './head.ts'
import { leafHash, verifyConsistency, verifyInclusion } from './merkle.ts'
import { consistency, inclusion, Unprovable } from './prove.ts'
import { list } from './read.ts'

/** Of one operation: a start, an end, and what administrators did to it. */
const RECORDS_MAX = 20
const PROOF_HASHES_MAX = 64
const HASH = /^[0-9a-f]{64}$/

/** A record and the way from it to the root of the tree that a head signs. */
export interface Proven {
  readonly entry: Linked
  /** The link of the record before, so that its own can be computed again. */
  readonly previous: string
  readonly proof: readonly string[]
}

/**
 * What its holder can show to anybody who has the public key: these records are in the ledger, word for word, at these places, since
 * the head was signed. Needs neither the database nor the gate.
 */
export interface Receipt {
  readonly kind: 'drawbridge.receipt'
  readonly version: 1
  /** The operation, or `record N`. */
  readonly of: string
  readonly records: readonly Proven[]
  readonly head: Head
}

/** Shows that the ledger of one head is the beginning of the ledger of another: nothing before the first was changed in between. */
export interface Consistency {
  readonly kind: 'drawbridge.consistency'
  readonly version: 1
  readonly first: Head
  readonly second: Head
  readonly proof: readonly string[]
}

/** Why there is no receipt: no such record, or no head over it yet. */
export type NoReceipt = 'unknown' | 'no head yet'

/**
 * The receipt of an operation's records, or of the one with a sequence number.
 * @param ofPrincipal only records about this one
 */
export async function receiptOf(
  sql: Sql,
  of: { readonly operation: string } | { readonly seq: number },
  ofPrincipal?: string,
): Promise<Receipt | NoReceipt> {
  const principal = ofPrincipal === undefined ? {} : { principal: ofPrincipal }
  const entries =
    'seq' in of
      ? await list(sql, principal, { after: of.seq - 1, to: of.seq }, 1)
      : await list(sql, { operation: of.operation, ...principal }, { after: 0 }, RECORDS_MAX)
  const last = entries.at(-1)
  if (!last) return 'unknown'
  const head = await storedHeadOver(sql, last.seq)
  if (!head) return 'no head yet'
  const records: Proven[] = []
  for (const entry of entries) {
    const previous = await linkBefore(sql, entry.seq)
    records.push({ entry, previous, proof: await inclusion(sql, entry.seq, head.seq) })
  }
  const name = 'seq' in of ? `record ${of.seq}` : of.operation
  return { kind: 'drawbridge.receipt', version: 1, of: name, records, head }
}

async function linkBefore(sql: Sql, seq: number): Promise<string> {
  if (seq === 1) return GENESIS.toString('hex')
  const [row] = await sql<{ hash: Buffer }[]>`select hash from audit.record where seq = ${seq - 1}`
  if (row) return row.hash.toString('hex')
  const boundary = await storedBoundary(sql)
  if (boundary?.seq === seq - 1) return boundary.hash
  throw new Unprovable(`record ${seq - 1} is not in the database`)
}

/** The proof between two heads in the database; nothing when one of them is not there. */
export async function consistencyOf(sql: Sql, first: number, second: number): Promise<Consistency | undefined> {
  const [one, other] = [await storedHeadOver(sql, first), await storedHeadOver(sql, second)]
  if (one?.seq !== first || other?.seq !== second) return undefined
  const proof = await consistency(sql, first, second)
  return { kind: 'drawbridge.consistency', version: 1, first: one, second: other, proof }
}

/** What makes a receipt or a proof worthless; nothing when it holds. */
export type Flaw = string | undefined

/**
 * Checks a receipt by itself: each record's link, its way to the head's root, and the head's signature.
 * @param heads that were kept elsewhere: one over as many records must be the receipt's own
 */
export function flawOfReceipt(receipt: Receipt, keys: readonly KeyObject[], heads: readonly Head[] = []): Flaw {
  const { head, records, of } = receipt
  const unsound = flawOfHead(head, keys, heads)
  if (unsound !== undefined) return unsound
  if (records.length === 0) return 'it holds no record'
  for (const { entry, previous, proof } of records) {
    const name = `record ${entry.seq}`
    const about = of === name || Reflect.get(entry.record, 'operation') === of
    if (!about) return `${name} is not about ${of}`
    if (entry.seq > head.seq) return `${name} is younger than the head over ${head.seq} records`
    if (linkFrom(previous, entry) !== entry.hash) return `${name} does not match its hash: it was changed`
    const leaf = leafHash(Buffer.from(entry.hash, 'hex'))
    if (!verifyInclusion(leaf, entry.seq - 1, head.seq, bytes(proof), Buffer.from(head.root, 'hex')))
      return `${name} is not in the ledger that was signed on ${head.time}`
  }
  return undefined
}

/** Checks a proof of consistency by itself. */
export function flawOfConsistency(shown: Consistency, keys: readonly KeyObject[], heads: readonly Head[] = []): Flaw {
  const { first, second, proof } = shown
  const unsound = flawOfHead(first, keys, heads) ?? flawOfHead(second, keys, heads)
  if (unsound !== undefined) return unsound
  const [one, other] = [Buffer.from(first.root, 'hex'), Buffer.from(second.root, 'hex')]
  return verifyConsistency(first.seq, second.seq, one, other, bytes(proof))
    ? undefined
    : `the ledger of ${first.seq} records is not the beginning of the one of ${second.seq}: history was rewritten`
}

/** Nothing for an entry that has no canonical form, which no link of ours has. */
function linkFrom(previous: string, entry: Linked): string | undefined {
  try {
    return linkOf(Buffer.from(previous, 'hex'), entry).toString('hex')
  } catch {
    return undefined
  }
}

function flawOfHead(head: Head, keys: readonly KeyObject[], heads: readonly Head[]): Flaw {
  if (!keys.some(key => keyId(key) === head.key)) return `its head is signed by ${head.key}, which is not a trusted key`
  if (!verifyHead(head, keys)) return `its head does not bear a valid signature of ${head.key}`
  const kept = heads.find(({ seq }) => seq === head.seq)
  if (kept && verifyHead(kept, keys) && kept.root !== head.root)
    return `another head over ${head.seq} records was kept, signed on ${kept.time}: there are two histories`
  return undefined
}

const bytes = (proof: readonly string[]) => proof.map(hash => Buffer.from(hash, 'hex'))

/** A receipt or a proof of consistency from a file. @throws SyntaxError saying what is wrong with it */
export function parseProof(text: string): Receipt | Consistency {
  const value = JSON.parse(text) as Receipt | Consistency
  if (value?.version !== 1) throw new SyntaxError('it is no receipt of version 1')
  if (value.kind === 'drawbridge.consistency') {
    parseHead(JSON.stringify(value.first))
    parseHead(JSON.stringify(value.second))
    requireProof(value.proof)
    return value
  }
  if (value.kind !== 'drawbridge.receipt' || typeof value.of !== 'string' || !Array.isArray(value.records))
    throw new SyntaxError('it is neither a receipt nor a proof of consistency')
  parseHead(JSON.stringify(value.head))
  if (value.records.length > RECORDS_MAX) throw new SyntaxError(`it holds more than ${RECORDS_MAX} records`)
  for (const { entry, previous, proof } of value.records) {
    const whole = Number.isSafeInteger(entry?.seq) && typeof entry.record?.kind === 'string'
    if (!whole || !HASH.test(entry.hash) || !HASH.test(previous))
      throw new SyntaxError('it holds a record that is none')
    requireProof(proof)
  }
  return value
}

function requireProof(proof: unknown): void {
  const sound =
    Array.isArray(proof) &&
    proof.length <= PROOF_HASHES_MAX &&
    proof.every(hash => typeof hash === 'string' && HASH.test(hash))
  if (!sound) throw new SyntaxError('its proof is no list of SHA-256 hashes')
}
