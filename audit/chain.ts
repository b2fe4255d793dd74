import { createHash, hash as digest } from 'node:crypto'
import { canonical } from './canonical.ts'
import type { Record } from './record.ts'

/** Keeps a hash of the chain from ever being read as a hash of anything else; the number is the version of the form. */
const DOMAIN = Buffer.from('drawbridge ledger record v1\0')

/** What the first record of a ledger is linked to. */
export const GENESIS: Buffer = Buffer.alloc(32)

/** One record in its place in the ledger. */
export interface Entry {
  /** 1, 2, 3 … without a gap. */
  readonly seq: number
  /** When the ledger took it, as `2026-01-31T12:34:56.789Z`; never earlier than the one before. */
  readonly recorded: string
  /** Who sent it, in which run, under which of that run's own numbers. */
  readonly proxy: string
  readonly boot: string
  readonly n: number
  /** When it happened, by the sender's clock. */
  readonly at: string
  readonly record: Record
}

/** An entry and its link. */
export interface Linked extends Entry {
  /** SHA-256, lower-case hex. */
  readonly hash: string
}

/**
 * The canonical JSON of an entry from the canonical JSON of its record: `{"at","boot","n","proxy","record","recorded","seq"}`,
 * written by hand because the ledger does it for every record and the record's own form is at hand.
 */
export function entryForm(entry: Omit<Entry, 'record'>, body: string): string {
  const { at, boot, n, proxy, recorded, seq } = entry
  return `{"at":"${at}","boot":${JSON.stringify(boot)},"n":${n},"proxy":${JSON.stringify(proxy)},"record":${body},"recorded":"${recorded}","seq":${seq}}`
}

/**
 * The link: SHA-256 over domain ‖ hash of the record before (32 bytes) ‖ sequence number (8 bytes, big endian) ‖ canonical entry.
 * Fixed lengths come first, so no two different inputs give the same bytes.
 */
export function link(previous: Buffer, seq: number, form: string): Buffer {
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(BigInt(seq))
  return createHash('sha256').update(DOMAIN).update(previous).update(number).update(form).digest()
}

/** The link an entry must have behind `previous`. */
export function linkOf(previous: Buffer, entry: Entry): Buffer {
  return link(previous, entry.seq, entryForm(entry, canonical(entry.record)))
}

/** SHA-256 as bytes. */
export function sha256(...parts: readonly Uint8Array[]): Buffer {
  return digest('sha256', Buffer.concat(parts), 'buffer')
}

/** Where a chain first fails to hold, and how. */
export interface Fault {
  readonly seq: number
  readonly what: string
}

/**
 * Walks entries from the one after `previous` (the start of the ledger when left out) and names the first that does not follow.
 * Entries before the fault are as they were written, if the last hash is the one a signed head vouches for.
 */
export function verify(
  entries: Iterable<Linked>,
  previous: Pick<Linked, 'seq' | 'hash' | 'recorded'> = BEGINNING,
): Fault | undefined {
  let before = previous
  for (const entry of entries) {
    const fault = faultOf(before, entry)
    if (fault) return fault
    before = entry
  }
  return undefined
}

/** What stands before the first record. */
export const BEGINNING: Pick<Linked, 'seq' | 'hash' | 'recorded'> = {
  seq: 0,
  hash: GENESIS.toString('hex'),
  recorded: '1970-01-01T00:00:00.000Z',
}

/** Checks one entry against the one before it. */
export function faultOf(before: Pick<Linked, 'seq' | 'hash' | 'recorded'>, entry: Linked): Fault | undefined {
  const seq = before.seq + 1
  if (!Number.isSafeInteger(entry.seq)) return { seq, what: 'its sequence number is not a number' }
  if (entry.seq > seq) return { seq, what: `missing: the next record present is ${entry.seq}` }
  if (entry.seq < seq) return { seq: entry.seq, what: `out of order: it comes after ${before.seq}` }
  if (!isTime(entry.at) || !isTime(entry.recorded))
    return { seq, what: 'its times are not UTC times with milliseconds' }
  if (entry.recorded < before.recorded) return { seq, what: `taken at ${entry.recorded}, before its predecessor` }
  let hash: string
  try {
    hash = linkOf(Buffer.from(before.hash, 'hex'), entry).toString('hex')
  } catch (cause) {
    return { seq, what: `has no canonical form: ${cause instanceof Error ? cause.message : String(cause)}` }
  }
  if (hash !== entry.hash) return { seq, what: 'its content or its place does not match its hash' }
  return undefined
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

function isTime(text: unknown): boolean {
  return typeof text === 'string' && TIME.test(text)
}
