import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  consistencyRanges,
  GrowingTree,
  inclusionRanges,
  leafHash,
  peaksFrom,
  rangeRoot,
  root,
  verifyConsistency,
  verifyInclusion,
} from '../../audit/merkle.ts'

// The eight inputs and roots that Certificate Transparency logs are tested with.
const DATA = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]
const leaves = (count: number) => Array.from({ length: count }, (_, i) => leafHash(Buffer.from(`record ${i}`)))
const inclusionProof = (index: number, all: readonly Buffer[]) =>
  inclusionRanges(index, all.length).map(range => rangeRoot(all, range))
const consistencyProof = (first: number, all: readonly Buffer[]) =>
  consistencyRanges(first, all.length).map(range => rangeRoot(all, range))

test('the roots are those of Certificate Transparency', () => {
  const tree = new GrowingTree()
  const hashes = DATA.map(hex => Buffer.from(hex, 'hex'))
  expect(tree.root().toString('hex')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  for (const [i, data] of hashes.entries()) {
    tree.add(data)
    expect(tree.root().toString('hex')).toBe(ROOTS[i])
    expect(root(hashes.slice(0, i + 1).map(leafHash)).toString('hex')).toBe(ROOTS[i])
  }
})

test('a tree taken up again from its peaks goes on as if it had never stopped', () => {
  const whole = new GrowingTree()
  let resumed = new GrowingTree()
  for (let i = 0; i < 70; i++) {
    whole.add(Buffer.from(`${i}`))
    resumed.add(Buffer.from(`${i}`))
    const { size, roots } = resumed.peaks()
    resumed = new GrowingTree(peaksFrom(size, Buffer.concat(roots)))
    expect(resumed.root()).toEqual(whole.root())
  }
})

test('peaks that do not fit the size are refused', () => {
  expect(() => peaksFrom(3, Buffer.alloc(32))).toThrow('2 peaks')
  expect(() => peaksFrom(1, Buffer.alloc(31))).toThrow('peaks')
})

test('every leaf of every tree up to 33 has a proof that holds, and holds for no other leaf, index or root', () => {
  for (let size = 1; size <= 33; size++) {
    const all = leaves(size)
    for (let index = 0; index < size; index++) {
      const proof = inclusionProof(index, all)
      expect(verifyInclusion(all[index]!, index, size, proof, root(all))).toBe(true)
      expect(verifyInclusion(leafHash(Buffer.from('other')), index, size, proof, root(all))).toBe(false)
      expect(verifyInclusion(all[index]!, index, size, [...proof, all[0]!], root(all))).toBe(false)
      expect(verifyInclusion(all[index]!, index, size, proof.slice(1), root(all))).toBe(proof.length === 0)
      if (size > 1) expect(verifyInclusion(all[index]!, (index + 1) % size, size, proof, root(all))).toBe(false)
    }
  }
})

test('every beginning of every tree up to 33 has a consistency proof that holds, and none for a changed past', () => {
  for (let size = 1; size <= 33; size++) {
    const all = leaves(size)
    for (let first = 1; first <= size; first++) {
      const proof = consistencyProof(first, all)
      const old = root(all.slice(0, first))
      expect(verifyConsistency(first, size, old, root(all), proof)).toBe(true)
      const changed = [leafHash(Buffer.from('rewritten')), ...all.slice(1)]
      expect(verifyConsistency(first, size, old, root(changed), consistencyProof(first, changed))).toBe(false)
    }
  }
})

test('a node is not taken for a leaf', () => {
  const [a, b] = leaves(2) as [Buffer, Buffer]
  expect(leafHash(Buffer.concat([a, b]))).not.toEqual(root([a, b]))
})

test('a proof with any bit turned fails', () => {
  const all = leaves(21)
  fc.assert(
    fc.property(fc.nat(20), fc.nat(), fc.nat(255), (index, which, bit) => {
      const proof = inclusionProof(index, all).map(hash => Buffer.from(hash))
      const hash = proof[which % proof.length]!
      hash[bit >> 3]! ^= 1 << (bit & 7)
      return !verifyInclusion(all[index]!, index, 21, proof, root(all))
    }),
  )
})
