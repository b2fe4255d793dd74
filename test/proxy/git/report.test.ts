import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FLUSH, line } from '../../../proxy/git/pktline.ts'
import { ReportReader, report } from '../../../proxy/git/report.ts'
import { band, SidebandReader } from '../../../proxy/git/sideband.ts'

const BOTH = new Set(['report-status', 'side-band-64k'])
const PLAIN = new Set(['report-status'])
const refs = [{ ref: 'refs/heads/ok' }, { ref: 'refs/heads/main', reason: 'no grant' }]
const STATUS = '000eunpack ok\n0015ok refs/heads/ok\n0020ng refs/heads/main no grant\n0000'

describe('a report-status', () => {
  test('is told plainly, or on band 1 with its own flush behind what a person reads', () => {
    expect(report({ refs, capabilities: PLAIN, text: 'not shown' }).toString()).toBe(STATUS)
    const wrapped = report({ refs, capabilities: BOTH, text: 'ask:\ngit access' })
    expect(wrapped.toString()).toBe(`0015\x02ask:\ngit access\n004c\x01${STATUS}0000`)
  })

  test('sends nothing that was not asked for', () => {
    expect(report({ refs, capabilities: new Set(), text: 'x' }).length).toBe(0)
    expect(report({ refs, capabilities: new Set(['side-band']), text: 'x' }).toString()).toBe('0007\x02x\n0000')
  })

  test('keeps a reason to one line', () => {
    const bytes = report({ refs: [{ ref: 'r', reason: 'a\nok refs/heads/x\x1b[2J' }], capabilities: PLAIN })
    expect(bytes.toString()).toBe('000eunpack ok\n001bng r a ok refs/heads/x\n0000')
  })

  test('packets of the old side-band have at most 1000 bytes', () => {
    const many = Array.from({ length: 100 }, (_, n) => ({ ref: `refs/heads/${n}` }))
    const bytes = report({ refs: many, capabilities: new Set(['report-status', 'side-band']) })
    expect(bytes.subarray(0, 5).toString()).toBe('03e8\x01')
    const reader = new ReportReader({ capabilities: new Set(['report-status', 'side-band']) })
    reader.write(bytes)
    expect(reader.result().refs.size).toBe(100)
  })
})

describe('reading a report-status that goes by', () => {
  const answers: [string, Set<string>, Buffer][] = [
    ['plain', PLAIN, Buffer.from(STATUS)],
    ['on band 1', BOTH, report({ refs, capabilities: BOTH, text: 'progress' })],
    [
      'on band 1 in odd pieces',
      BOTH,
      Buffer.concat([
        band(1, Buffer.from(STATUS.slice(0, 3))),
        band(2, Buffer.from('noise')),
        band(1, Buffer.from(STATUS.slice(3, 40))),
        band(1, Buffer.from(STATUS.slice(40))),
        FLUSH,
      ]),
    ],
  ]

  test.each(answers)('%s, it gives each ref its result, at every split', (_how, capabilities, bytes) => {
    for (let at = 0; at <= bytes.length; at++) {
      const reader = new ReportReader({ capabilities })
      reader.write(bytes.subarray(0, at))
      reader.write(bytes.subarray(at))
      expect(reader.result()).toEqual({
        state: 'complete',
        unpack: 'ok',
        refs: new Map([
          ['refs/heads/ok', { result: 'ok' }],
          ['refs/heads/main', { result: 'rejected', reason: 'no grant' }],
        ]),
      })
    }
  })

  test('report-status-v2 tells what the host did instead', () => {
    const reader = new ReportReader({ capabilities: new Set(['report-status-v2']) })
    const lines = ['unpack ok', 'ok refs/for/main', 'option refname refs/changes/1', 'option forced-update']
    reader.write(Buffer.concat([...lines.map(line), FLUSH]))
    expect(reader.result().refs.get('refs/for/main')).toEqual({
      result: 'ok',
      options: { refname: 'refs/changes/1', 'forced-update': '' },
    })
  })

  test('a report that breaks off is unknown, so that nothing is recorded as landed', () => {
    const bytes = report({ refs, capabilities: BOTH })
    for (let end = 0; end < bytes.length - 8; end++) {
      const reader = new ReportReader({ capabilities: BOTH })
      reader.write(bytes.subarray(0, end))
      expect(reader.result().state).toBe('unknown')
    }
  })

  test('garbage is unknown and never thrown into the relay', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 })), fc.boolean(), (parts, plain) => {
        const reader = new ReportReader({ capabilities: plain ? PLAIN : BOTH })
        for (const part of parts) reader.write(Buffer.from(part))
        expect(reader.result().state).toBe('unknown')
      }),
      { numRuns: 60 },
    )
    for (const bad of ['ok refs/heads/x', 'unpack', 'unpack ok\0', 'hello']) {
      const reader = new ReportReader({ capabilities: PLAIN })
      reader.write(Buffer.concat([line(bad), line('wat'), FLUSH]))
      expect(reader.result().state).toBe('unknown')
    }
  })

  test('a ref reported both ok and refused has not landed', () => {
    const reader = new ReportReader({ capabilities: PLAIN })
    reader.write(Buffer.concat([...['unpack ok', 'ng r no', 'ok r'].map(line), FLUSH]))
    expect(reader.result().refs.get('r')).toEqual({ result: 'rejected', reason: 'no' })
  })
})

describe('side-band', () => {
  test('what was put on the bands comes off them, at every split', () => {
    const bytes = Buffer.concat([
      band(2, Buffer.from('hi')),
      band(1, Buffer.from('data')),
      band(3, Buffer.from('no')),
      FLUSH,
    ])
    for (let at = 0; at <= bytes.length; at++) {
      const seen: string[] = []
      const reader = new SidebandReader({
        onband: (number, part) => seen.push(`${number}${part}`),
        onflush: () => seen.push('flush'),
      })
      reader.write(bytes.subarray(0, at))
      reader.write(bytes.subarray(at))
      expect(seen).toEqual(['2hi', '1data', '3no', 'flush'])
    }
  })

  test('large data is parted into the largest packets git takes', () => {
    const bytes = band(1, Buffer.alloc(65_516))
    expect(bytes.toString('latin1', 0, 5)).toBe('fff0\x01')
    expect(bytes.toString('latin1', 65_520, 65_525)).toBe('0006\x01')
  })
})
