import { sha256 } from './chain.ts'

// RFC 9162, section 2.1: leaves and nodes are hashed under different first bytes, so that no node passes for a leaf. Leaf n - 1 of
// the tree is the 32-byte link of record n.

const LEAF = Buffer.of(0)
const NODE = Buffer.of(1)
const HASH_BYTES = 32

/** MTH of a one-entry list. */
export function leafHash(data: Uint8Array): Buffer {
  return sha256(LEAF, data)
}

/** The hash of the node over two subtrees. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return sha256(NODE, left, right)
}

/**
 * The tree so far, as the roots of its perfect subtrees, largest first: their sizes are the binary digits of `size`.
 * All that is needed to go on adding leaves, at most 53 hashes.
 */
export interface Peaks {
  readonly size: number
  readonly roots: readonly Buffer[]
}

/** Smaller subtrees are not worth keeping: their leaves are read and hashed in a millisecond. */
export const SUBTREE_LEVEL_MIN = 8

/** The root over the leaves `place` · 2^`level` to (`place` + 1) · 2^`level` - 1. */
export interface Subtree {
  readonly level: number
  readonly place: number
  readonly hash: Buffer
}

const NO_PEAKS: Peaks = { size: 0, roots: [] }

/** A tree that grows; what the ledger writer keeps. */
export class GrowingTree {
  #size: number
  readonly #roots: Buffer[]
  readonly #finished: ((subtree: Subtree) => void) | undefined

  /** @param finished told of each perfect subtree that is complete, of 2^`SUBTREE_LEVEL_MIN` leaves and more */
  constructor(peaks: Peaks = NO_PEAKS, finished?: (subtree: Subtree) => void) {
    this.#size = peaks.size
    this.#roots = [...peaks.roots]
    this.#finished = finished
  }

  /** Adds the link of the next record. */
  add(data: Uint8Array): void {
    let hash = leafHash(data)
    // Like a carry in binary addition: each trailing one bit of the size is a subtree as large as what is carried.
    let level = 0
    for (let size = this.#size; size % 2 === 1; size = (size - 1) / 2) {
      hash = nodeHash(this.#roots.pop()!, hash)
      level++
      if (level >= SUBTREE_LEVEL_MIN) this.#finished?.({ level, place: (size - 1) / 2, hash })
    }
    this.#roots.push(hash)
    this.#size++
  }

  /** MTH(D[size]); of an empty tree the hash of nothing. */
  root(): Buffer {
    if (this.#size === 0) return sha256()
    return this.#roots.reduceRight((right, left) => nodeHash(left, right))
  }

  peaks(): Peaks {
    return { size: this.#size, roots: [...this.#roots] }
  }
}

/** Peaks as the chain row of the database holds them: the hashes one after another. */
export function peaksFrom(size: number, bytes: Buffer): Peaks {
  const roots: Buffer[] = []
  for (let at = 0; at < bytes.length; at += HASH_BYTES) roots.push(Buffer.from(bytes.subarray(at, at + HASH_BYTES)))
  if (bytes.length % HASH_BYTES !== 0 || roots.length !== bitCount(size)) {
    throw new RangeError(`a tree of ${size} leaves has ${bitCount(size)} peaks, not ${bytes.length / HASH_BYTES}`)
  }
  return { size, roots }
}

function bitCount(size: number): number {
  let bits = 0
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) bits += rest % 2
  return bits
}

/** MTH(D[n]) of the leaf hashes. */
export function root(leaves: readonly Buffer[]): Buffer {
  return leaves.length === 0 ? sha256() : rangeRoot(leaves, { from: 0, to: leaves.length })
}

/** Leaves `from` to `to` - 1, a subtree of some proof. */
export interface Range {
  readonly from: number
  readonly to: number
}

/** The root over a range of the leaf hashes. */
export function rangeRoot(leaves: readonly Buffer[], range: Range): Buffer {
  if (range.to - range.from === 1) return leaves[range.from]!
  const [left, right] = halves(range)
  return nodeHash(rangeRoot(leaves, left), rangeRoot(leaves, right))
}

/** The two subtrees of which a range consists, and how their roots make its own. */
export function halves({ from, to }: Range): readonly [Range, Range] {
  const middle = from + largestPowerBelow(to - from)
  return [
    { from, to: middle },
    { from: middle, to },
  ]
}

/** The k of RFC 9162: the largest power of two smaller than n. */
function largestPowerBelow(n: number): number {
  let power = 1
  while (power * 2 < n) power *= 2
  return power
}

/** PATH(index, D[size]), section 2.1.3.1: the siblings on the way from a leaf to the root, lowest first. */
export function inclusionRanges(index: number, size: number): Range[] {
  if (!(index >= 0 && index < size)) throw new RangeError(`leaf ${index} is not among ${size}`)
  return path(index, { from: 0, to: size })
}

function path(index: number, range: Range): Range[] {
  if (range.to - range.from === 1) return []
  const [left, right] = halves(range)
  return index < right.from ? [...path(index, left), right] : [...path(index, right), left]
}

/** PROOF(first, D[second]), section 2.1.4.1: shows that the tree of `first` leaves is a beginning of the one of `second`. */
export function consistencyRanges(first: number, second: number): Range[] {
  if (!(first > 0 && first <= second)) throw new RangeError(`${first} is not between 1 and ${second}`)
  return subproof(first, { from: 0, to: second }, true)
}

function subproof(first: number, range: Range, whole: boolean): Range[] {
  if (first === range.to) return whole ? [] : [range]
  const [left, right] = halves(range)
  return first <= right.from ? [...subproof(first, left, whole), right] : [...subproof(first, right, false), left]
}

/** Section 2.1.3.2: whether the proof leads from this leaf hash at `index` to the root of a tree of `size` leaves. */
export function verifyInclusion(
  leaf: Buffer,
  index: number,
  size: number,
  proof: readonly Buffer[],
  expected: Buffer,
): boolean {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) return false
  let fn = index
  let sn = size - 1
  let hash = leaf
  for (const sibling of proof) {
    if (sn === 0) return false
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sibling, hash)
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else {
      hash = nodeHash(hash, sibling)
    }
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 && hash.equals(expected)
}

/** Section 2.1.4.2: whether the proof shows the tree of `first` leaves to be a beginning of the one of `second`. */
export function verifyConsistency(
  first: number,
  second: number,
  firstRoot: Buffer,
  secondRoot: Buffer,
  proof: readonly Buffer[],
): boolean {
  if (!Number.isSafeInteger(first) || first < 1 || first > second) return false
  if (first === second) return proof.length === 0 && firstRoot.equals(secondRoot)
  const rest = isPowerOfTwo(first) ? [firstRoot, ...proof] : [...proof]
  const start = rest.shift()
  if (!start) return false
  let fn = first - 1
  let sn = second - 1
  while (fn % 2 === 1) {
    fn = half(fn)
    sn = half(sn)
  }
  let fr = start
  let sr = start
  for (const hash of rest) {
    if (sn === 0) return false
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(hash, fr)
      sr = nodeHash(hash, sr)
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else {
      sr = nodeHash(sr, hash)
    }
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 && fr.equals(firstRoot) && sr.equals(secondRoot)
}

// Not a shift: sizes may pass 2^31.
function half(n: number): number {
  return Math.floor(n / 2)
}

function isPowerOfTwo(n: number): boolean {
  return bitCount(n) === 1
}
