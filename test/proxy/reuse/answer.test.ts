import { describe, expect, test } from 'vitest'
import { DELIM, FLUSH, line, PacketCounter, packet } from '../../../proxy/git/pktline.ts'
import { band } from '../../../proxy/git/sideband.ts'
import { watchAnswer } from '../../../proxy/reuse/answer.ts'

const A = 'a'.repeat(40)
const PACK = [line('packfile'), band(2, Buffer.from('Counting\n')), band(1, Buffer.from('PACK…'))]

/** What is thought of an answer when it comes in two pieces, parted at `at`. */
function look(packets: readonly Buffer[], { shallow = false, at = 0 } = {}) {
  const bytes = Buffer.concat(packets)
  const watch = watchAnswer({ shallow })
  const counter = new PacketCounter(watch)
  counter.count(bytes.subarray(0, at))
  counter.count(bytes.subarray(at))
  return { verdict: watch.verdict, whole: watch.whole }
}

test('a pack is anybody’s, and whole with its flush packet, at every split', () => {
  const answer = [...PACK, FLUSH]
  for (let at = 0; at <= Buffer.concat(answer).length; at++) {
    expect(look(answer, { at })).toEqual({ verdict: 'shared', whole: true })
  }
  expect(look(PACK)).toEqual({ verdict: 'shared', whole: false })
})

test('shallow-info belongs to it where a depth was asked for, and nowhere else', () => {
  const answer = [line('shallow-info'), line(`shallow ${A}`), line(`unshallow ${A}`), DELIM, ...PACK, FLUSH]
  for (let at = 0; at <= Buffer.concat(answer).length; at++) {
    expect(look(answer, { shallow: true, at })).toEqual({ verdict: 'shared', whole: true })
  }
  expect(look(answer)).toEqual({ verdict: 'own', whole: false })
})

describe('is for who asked alone', () => {
  test.each<[string, Buffer[]]>([
    ['wanted-refs', [line('wanted-refs'), line(`${A} refs/heads/main`), DELIM, ...PACK, FLUSH]],
    ['packfile-uris', [line('packfile-uris'), line(`${A} https://elsewhere.example/`), DELIM, ...PACK, FLUSH]],
    ['acknowledgments', [line('acknowledgments'), line('NAK'), FLUSH]],
    ['an error', [packet(Buffer.from('ERR upload-pack: not our ref'))]],
    ['a section behind shallow-info', [line('shallow-info'), DELIM, line('wanted-refs'), DELIM, ...PACK, FLUSH]],
    ['an end before anything', [FLUSH]],
  ])('%s', (_what, packets) => {
    expect(look(packets, { shallow: true }).verdict).toBe('own')
  })
})

describe('is never kept', () => {
  test.each<[string, Buffer[]]>([
    ['an answer that ended with an error on band 3', [...PACK, band(3, Buffer.from('aborting')), FLUSH]],
    ['one with a packet behind its end', [...PACK, FLUSH, line('more')]],
    ['one with a band nobody knows', [...PACK, packet(Buffer.from([4, 1])), FLUSH]],
    ['one with an empty packet in its pack', [...PACK, packet(Buffer.alloc(0)), FLUSH]],
    ['one with a delimiter in its pack', [...PACK, DELIM, FLUSH]],
  ])('%s', (_what, packets) => {
    expect(look(packets)).toMatchObject({ verdict: 'shared', whole: false })
  })
})
