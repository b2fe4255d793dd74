import { type KeyObject, sign, verify } from 'node:crypto'
import type { Sql } from 'postgres'
import { canonical } from './canonical.ts'
import { type Head, type HeadKey, keyId, parseHead } from './head.ts'
import { type Peaks, peaksFrom } from './merkle.ts'

/** A boundary's signature never passes for one over anything else. */
const DOMAIN = 'drawbridge ledger boundary v1\0'

/** How far a run of a proxy had come: its own number of its last record. */
export type RunEnd = readonly [proxy: string, boot: string, last: number]

/**
 * Where the ledger was parted: what came up to `seq` was written to a file and taken out of the database. Holds all that is needed to go
 * on checking behind it, and is signed with the key of the heads: whoever owns the database cannot cut the ledger and call it retention.
 */
export interface Boundary {
  readonly from: number
  readonly seq: number
  /** The link of record `seq`, hex. */
  readonly hash: string
  /** When record `seq` was taken. */
  readonly recorded: string
  /** The roots of the perfect subtrees of the Merkle tree over records 1 to `seq`, largest first, hex, one after another. */
  readonly peaks: string
  readonly runs: readonly RunEnd[]
  /** The file that holds records `from` to `seq`, as JSON Lines, and its SHA-256, hex. */
  readonly file: string
  readonly sha256: string
  /** When it was signed. */
  readonly time: string
  readonly key: string
  /** Ed25519 over domain ‖ canonical JSON of the other members, base64. */
  readonly signature: string
}

export function signBoundary(key: HeadKey, boundary: Omit<Boundary, 'key' | 'signature'>): Boundary {
  const unsigned = { ...boundary, key: key.id }
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), key.privateKey).toString('base64') }
}

/** Whether it was signed by the key of `trusted` that it names. */
export function verifyBoundary(boundary: Boundary, trusted: readonly KeyObject[]): boolean {
  const publicKey = trusted.find(key => keyId(key) === boundary.key)
  if (!publicKey) return false
  try {
    return verify(null, signedBytes(boundary), publicKey, Buffer.from(boundary.signature, 'base64'))
  } catch {
    // Members that have no canonical form: not ours.
    return false
  }
}

function signedBytes(boundary: Omit<Boundary, 'signature'>): Buffer {
  return Buffer.from(DOMAIN + canonical({ ...boundary, signature: undefined }))
}

/** The Merkle tree as it was there. */
export function peaksAt({ seq, peaks }: Boundary): Peaks {
  return peaksFrom(seq, Buffer.from(peaks, 'hex'))
}

/** A boundary from its JSON. @throws SyntaxError when it is none */
function parseBoundary(text: string): Boundary {
  const value = JSON.parse(text) as Boundary
  const texts = [value?.hash, value?.recorded, value?.peaks, value?.file, value?.sha256, value?.time, value?.key]
  const whole =
    Number.isSafeInteger(value?.seq) &&
    Number.isSafeInteger(value.from) &&
    [...texts, value.signature].every(member => typeof member === 'string') &&
    Array.isArray(value.runs)
  if (!whole) throw new SyntaxError('it is no boundary of a ledger')
  return value
}

/** What stands beside an exported part, `<file>.proof.json`: enough to check it by itself. */
export interface PartProof {
  /** What it begins behind; nothing for the first. */
  readonly before?: Boundary
  readonly boundary: Boundary
  readonly heads: readonly Head[]
}

/** @throws SyntaxError when it is none */
export function parsePartProof(text: string): PartProof {
  const { before, boundary, heads } = JSON.parse(text) as PartProof
  if (!Array.isArray(heads)) throw new SyntaxError('it is no proof of an exported part')
  return {
    ...(before !== undefined && { before: parseBoundary(JSON.stringify(before)) }),
    boundary: parseBoundary(JSON.stringify(boundary ?? null)),
    heads: heads.map(head => parseHead(JSON.stringify(head))),
  }
}

/** The last boundary in the database; nothing when all records are there. Whether it is genuine, its signature says. */
export async function storedBoundary(sql: Sql): Promise<Boundary | undefined> {
  const [row] = await sql<{ body: string }[]>`select body from audit.boundary order by seq desc limit 1`
  return row && parseBoundary(row.body)
}
