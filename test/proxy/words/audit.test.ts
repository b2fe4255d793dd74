import { PassThrough, type Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import type { Entry } from '../../../audit/sentence.ts'
import { type Asked, ControlError, type ControlPlane } from '../../../proxy/control.ts'
import type { CommandContext } from '../../../proxy/ssh/session.ts'
import { auditWord } from '../../../proxy/words/audit.ts'
import { until } from '../../support/program.ts'

const entry = (seq: number, reason = ''): Entry => ({
  seq,
  recorded: '2026-01-31T12:00:00.000Z',
  record: { kind: 'operation.end', principal: 'dana', action: 'push', result: 'ok', reason },
})
const event = (seq: number, reason?: string) => `id: ${seq}\nevent: k\ndata: ${JSON.stringify(entry(seq, reason))}\n\n`

/** A control plane with a ledger of so many records, and what was asked of it. */
function ledger(records: number, streams: readonly (() => AsyncIterable<Buffer>)[] = []) {
  const asked: string[] = []
  const opened: string[] = []
  const control: ControlPlane = {
    async call<T>({ path }: Asked) {
      asked.push(path)
      const place = new URL(path, 'http://x').searchParams
      const before = Number(place.get('before') ?? records + 1)
      const count = Math.min(Number(place.get('limit')), before - 1)
      return { records: Array.from({ length: count }, (_, i) => entry(before - 1 - i)) } as T
    },
    async stream({ path, headers }) {
      const next = streams[opened.length]
      opened.push(`${path} behind ${headers?.['last-event-id']}`)
      if (!next) throw new ControlError(3, 'the gate cannot reach its control plane')
      return next()
    },
  }
  return { control, asked, opened }
}

async function* saying(...texts: string[]) {
  for (const text of texts) yield Buffer.from(text)
}

function person(over: Partial<CommandContext> = {}) {
  const gone = new AbortController()
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const context: CommandContext = {
    caller: {
      principal: 'kim',
      identity: { kind: 'key', fingerprint: 'SHA256:x' },
      credentials: [],
      origin: { transport: 'ssh', address: '127.0.0.1', connection: 'c-1', agent: '' },
    },
    publicKey: Buffer.alloc(0),
    stdin: new PassThrough(),
    stdout,
    stderr,
    gone: gone.signal,
    stands: async () => true,
    ...over,
  }
  const text = (stream: Readable) => String(stream.read() ?? '')
  return { context, leave: () => gone.abort(), said: () => text(stderr), told: () => text(stdout) }
}

const seqs = (text: string) => [...text.matchAll(/^(\d+) /gm)].map(([, seq]) => Number(seq))

describe('ssh GATE audit', () => {
  test('list asks for what was asked, a page at a time, and tells a record a line', async () => {
    const { control, asked } = ledger(200)
    const kim = person()
    const words = ['list', '--limit', '120', '--before', '150', '--principal', 'dana', '--result', 'ok']
    expect(await auditWord(control)(words, kim.context)).toBe(0)
    expect(asked).toEqual([
      '/audit?principal=dana&result=ok&limit=50&before=150',
      '/audit?principal=dana&result=ok&limit=50&before=100',
      '/audit?principal=dana&result=ok&limit=20&before=50',
    ])
    expect(seqs(kim.told())).toEqual(Array.from({ length: 120 }, (_, i) => 149 - i))
  })

  test('tail shows the last records, the oldest first, and as JSON what they are', async () => {
    const kim = person()
    expect(await auditWord(ledger(9).control)(['tail', '-n', '3', '--json'], kim.context)).toBe(0)
    const lines = kim.told().trim().split('\n')
    expect(lines.map(line => JSON.parse(line))).toEqual([entry(7), entry(8), entry(9)])
  })

  test('tail -f goes on where its own last lines end, and behind the last record seen after a break', async () => {
    const { control, opened } = ledger(2, [
      () => saying(`retry: 1000\n\n: still here\n\n${event(3)}${event(4)}id: 5\nda`),
      () => saying(event(5), 'event: end\ndata: kim is locked\n\n'),
    ])
    const kim = person()
    expect(await auditWord(control)(['tail', '-f', '--kind', 'operation.end'], kim.context)).toBe(4)
    expect(opened).toEqual(['/audit/stream?kind=operation.end behind 2', '/audit/stream?kind=operation.end behind 4'])
    expect(seqs(kim.told())).toEqual([1, 2, 3, 4, 5])
    expect(kim.said()).toMatch(/kim is locked[\s\S]*audit tail -f --after 5/)
  })

  test('what others typed cannot draw on the terminal', async () => {
    const { control } = ledger(0, [() => saying(event(1, 'x\u001b[2Jy\n9 forged'), 'event: end\ndata: over\n\n')])
    const kim = person()
    await auditWord(control)(['tail', '-f', '--after', '0'], kim.context)
    expect(kim.told()).toBe('1 2026-01-31T12:00:00.000Z operation.end dana push ok: x?[2Jy?9 forged\n')
  })

  test('who does not read is not read for', async () => {
    let taken = 0
    async function* endless() {
      for (let seq = 1; ; seq++) {
        taken = seq
        yield Buffer.from(event(seq, 'x'.repeat(900)))
      }
    }
    const stdout = new PassThrough({ highWaterMark: 4_000 })
    const kim = person({ stdout })
    const following = auditWord(ledger(0, [endless]).control)(['tail', '-f', '--after', '0'], kim.context)
    await until(() => stdout.writableNeedDrain, 'a full buffer')
    const before = taken
    await new Promise(resolve => setTimeout(resolve, 50))
    expect([taken, taken < 20]).toEqual([before, true])
    stdout.read()
    await until(() => taken > before, 'more')
    kim.leave()
    await following
  })

  test('ends when the key that was shown stands for nobody any more', async () => {
    async function* quiet() {
      yield Buffer.from(': still here\n\n')
      await new Promise(() => {})
    }
    const { control } = ledger(0, [quiet])
    const kim = person({ stands: async () => false })
    const stream = control.stream
    // As the control plane's is: it breaks with the signal.
    control.stream = async asked => {
      const chunks = (await stream(asked))[Symbol.asyncIterator]()
      const broken = new Promise<never>((_, reject) =>
        asked.gone.addEventListener('abort', () => reject(new Error('aborted'))),
      )
      return { [Symbol.asyncIterator]: () => ({ next: () => Promise.race([chunks.next(), broken]) }) }
    }
    expect(await auditWord(control, 10)(['tail', '-f', '--after', '7'], kim.context)).toBe(4)
    expect(kim.said()).toMatch(/credential of this connection has ended[\s\S]*--after 7/)
  })

  test.each([
    [['tail', '-f', '--after', '1e3'], '--after: expected a whole number'],
    [['tail', '--after', '3'], '--after goes with -f'],
    [['tail', '-n', '1001'], '--lines: at most 1000'],
    [['tail', 'acme/api'], 'the filters are options'],
    [['export'], 'say what: audit tail or audit list'],
    [['list', '--format', 'csv'], 'there is no --format'],
  ])('%j is refused with what would do', async (words, sentence) => {
    const { control, asked, opened } = ledger(5)
    const kim = person()
    expect(await auditWord(control)(words, kim.context)).toBe(2)
    const said = kim.said()
    expect(said).toContain(sentence)
    expect(said).toContain('usage: audit tail')
    expect([asked, opened]).toEqual([[], []])
  })

  test('is told at once when the control plane cannot be reached, and does not wait for it', async () => {
    const kim = person()
    expect(await auditWord(ledger(0).control)(['tail', '-f', '--after', '0'], kim.context)).toBe(3)
    expect(kim.said()).toContain('cannot reach its control plane')
  })
})
