import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DELIM, FLUSH, line } from '../../../proxy/git/pktline.ts'
import { commandReader, readCommand } from '../../../proxy/git/uploadpack.ts'
import { type Asked, asked } from '../../../proxy/reuse/asked.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)

/** What is made of the fetch command a client sends with these capabilities and arguments. */
async function spell(args: readonly string[], capabilities: readonly string[] = []): Promise<Asked | undefined> {
  const packets = [line('command=fetch'), ...capabilities.map(line), DELIM, ...args.map(line), FLUSH]
  const command = await readCommand(commandReader(Readable.from([Buffer.concat(packets)], { objectMode: false })))
  if (command?.command !== 'fetch') throw new Error('not read as a fetch')
  return asked(command)
}

// ---- what a request means, told independently of how it is spelled ----

interface Meaning {
  readonly wants: readonly string[]
  readonly haves: readonly string[]
  readonly shallows: readonly string[]
  readonly flags: readonly string[]
  readonly depth: string | undefined
  readonly filter: string | undefined
}

// Few values, so that two requests are often alike but for one thing.
const id = fc.constantFrom(A, B, 'c'.repeat(40))
const some = (word: fc.Arbitrary<string>) => fc.uniqueArray(word, { maxLength: 2 })
const meaning: fc.Arbitrary<Meaning> = fc.record({
  wants: fc.uniqueArray(id, { minLength: 1, maxLength: 2 }),
  haves: some(id),
  shallows: some(id),
  flags: some(fc.constantFrom('thin-pack', 'no-progress', 'include-tag', 'ofs-delta', 'deepen-relative')),
  depth: fc.constantFrom(undefined, undefined, 'deepen 1', 'deepen 11', 'deepen-since 1'),
  filter: fc.constantFrom(undefined, undefined, 'filter blob:none', 'filter tree:0', 'filter blob:limit=1k'),
})

const linesOf = ({ wants, haves, shallows, flags, depth, filter }: Meaning): string[] => [
  ...wants.map(each => `want ${each}`),
  ...haves.map(each => `have ${each}`),
  ...shallows.map(each => `shallow ${each}`),
  ...flags,
  ...(depth ? [depth] : []),
  ...(filter ? [filter] : []),
  'done',
]

const same = (one: Meaning, other: Meaning) =>
  JSON.stringify(linesOf(one).sort()) === JSON.stringify(linesOf(other).sort())

test('two requests have one spelling exactly when they mean the same', async () => {
  await fc.assert(
    fc.asyncProperty(meaning, meaning, async (one, other) => {
      const [first, second] = [await spell(linesOf(one)), await spell(linesOf(other))]
      expect(first).toBeDefined()
      expect(first?.spelling === second?.spelling).toBe(same(one, other))
    }),
    { numRuns: 500 },
  )
})

test('order, repetition, case and who asks make no difference', async () => {
  await fc.assert(
    fc.asyncProperty(
      meaning.chain(what =>
        fc.tuple(fc.constant(what), fc.shuffledSubarray(linesOf(what), { minLength: linesOf(what).length })),
      ),
      async ([what, shuffled]) => {
        const again = [...shuffled, `want ${what.wants[0]?.toUpperCase()}`]
        const one = await spell(linesOf(what), ['agent=git/2.39.5', 'object-format=sha1'])
        expect((await spell(again, ['agent=git/2.50.0-Linux', 'session-id=7']))?.spelling).toBe(one?.spelling)
      },
    ),
    { numRuns: 200 },
  )
})

test('the object format is a part of it', async () => {
  const long = 'd'.repeat(64)
  const sha256 = await spell([`want ${long}`, 'done'], ['object-format=sha256'])
  expect(sha256).toMatchObject({ format: 'sha256', wants: [long] })
  expect((await spell([`want ${A}`, 'done']))?.format).toBe('sha1')
})

test('says what of the answer does not follow from the wants alone', async () => {
  expect(await spell([`want ${A}`, 'include-tag', 'deepen 1', 'done'])).toMatchObject({ withTags: true, shallow: true })
  expect(await spell([`want ${A}`, 'done'])).toMatchObject({ withTags: false, shallow: false })
})

describe('is left to the host', () => {
  test.each<[string, string[], string[]?]>([
    ['a round of negotiation', [`want ${A}`, `have ${B}`]],
    ['a request that wants nothing', ['done']],
    ['a want by name, which may stand elsewhere tomorrow', ['want-ref refs/heads/main', 'done']],
    ['a depth that is told by a ref', [`want ${A}`, 'deepen-not refs/heads/old', 'done']],
    ['two depths', [`want ${A}`, 'deepen 1', 'deepen 2', 'done']],
    ['two filters', [`want ${A}`, 'filter tree:0', 'filter blob:none', 'done']],
    ['a filter that is read from a ref', [`want ${A}`, 'filter sparse:oid=main:.sparse', 'done']],
    ['a filter we do not know', [`want ${A}`, 'filter combine:tree:0+blob:none', 'done']],
    ['bands on every line', [`want ${A}`, 'sideband-all', 'done']],
    ['an answer in two parts', [`want ${A}`, 'wait-for-done', 'done']],
    ['an option for the server', [`want ${A}`, 'done'], ['server-option=variant']],
    ['a capability we do not know', [`want ${A}`, 'done'], ['surprise']],
    [
      'a list of haves as long as one client alone has',
      [`want ${A}`, ...Array<string>(20_000).fill(`have ${B}`), 'done'],
    ],
  ])('%s', async (_what, args, capabilities) => {
    expect(await spell(args, capabilities)).toBeUndefined()
  })
})
