import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readLine } from '../../../proxy/words/line.ts'

const KNOWN = { flags: ['push', 'wait'], values: ['reason', 'for', 'ref'] }

test('an option that takes a value takes all words up to the next option', () => {
  const line = readLine('acme/api --push --for 2 hours --reason fix the rounding --wait'.split(' '), KNOWN)
  expect(line).toEqual({
    words: ['acme/api'],
    flags: new Set(['push', 'wait']),
    values: new Map([
      ['for', '2 hours'],
      ['reason', 'fix the rounding'],
    ]),
  })
})

test('given twice, or with an equals sign, it is one value', () => {
  const line = readLine(['--ref', 'main', '--ref=release/*', '--reason=a=b'], KNOWN)
  expect(line).toMatchObject({
    values: new Map([
      ['ref', 'main release/*'],
      ['reason', 'a=b'],
    ]),
  })
})

test.each([
  [['--pull'], 'there is no --pull; there is --push, --wait, --reason, --for, --ref'],
  [['--push=yes'], 'there is no --push; there is'],
  [['--reason'], '--reason needs a value'],
  [['--reason', '--push'], '--reason needs a value'],
  [['--__proto__', 'x'], 'there is no --__proto__'],
])('%j makes no sense, and says why', (args, why) => {
  expect(readLine(args, KNOWN)).toContain(why)
})

test('every word of the line is somewhere, whatever it is', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1 }).filter(word => !word.startsWith('--'))), args => {
      expect(readLine([...args, '--reason', ...args, 'end'], KNOWN)).toEqual({
        words: args,
        flags: new Set(),
        values: new Map([['reason', [...args, 'end'].join(' ')]]),
      })
    }),
  )
})
