import { PassThrough, Readable, Writable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { FLUSH, line } from '../../proxy/git/pktline.ts'
import { refusal } from '../../proxy/refusal.ts'
import { type Relayed, type RelayOptions, relay } from '../../proxy/relay.ts'
import type { Session } from '../../proxy/session.ts'
import { openSession } from './attempt.ts'
import { splitAt, trickle } from './git/split.ts'

const PACKETS = [line('packfile'), line('\x01one'), line('\x01two two'), line('\x02three'), FLUSH]
const ANSWER = Buffer.concat(PACKETS)
/** Where a cut may fall. */
const BOUNDARIES = [0, ...PACKETS.map((_, n) => Buffer.concat(PACKETS.slice(0, n + 1)).length)]

/** A client that takes everything at once. */
function reader(): Writable & { readonly got: Buffer } {
  const parts: Buffer[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      parts.push(chunk)
      done()
    },
  })
  return Object.defineProperty(stream, 'got', { get: () => Buffer.concat(parts) }) as typeof stream & { got: Buffer }
}

const cutNow = (session: Session) =>
  session.cut(refusal(session.operation, 'cut', 'acme/app', 'upload-pack', 'your window was closed'))

async function relayed(from: Readable, options: Partial<RelayOptions> = {}): Promise<{ got: Buffer; how: Relayed }> {
  const to = reader()
  const how = await relay(from, to, openSession(to), { framed: true, ...options })
  return { got: to.got, how }
}

describe('an answer', () => {
  test('arrives as it was, wherever it is split and byte by byte, and the client is not ended', async () => {
    for (let at = 0; at <= ANSWER.length; at++) expect((await relayed(splitAt(ANSWER, at))).got).toEqual(ANSWER)
    expect((await relayed(trickle(ANSWER))).got).toEqual(ANSWER)
    const to = reader()
    await relay(Readable.from([ANSWER]), to, openSession(to), { framed: true })
    expect(to.writableEnded).toBe(false)
  })

  test('is counted in the bytes of its session', async () => {
    const to = reader()
    const session = openSession(to)
    await relay(trickle(ANSWER), to, session, { framed: true })
    expect(session.bytesOut).toBe(ANSWER.length)
  })

  test('that breaks off inside a packet, or is no packet, is an error and never an end', async () => {
    for (let at = 1; at < ANSWER.length; at++) {
      const broken = relayed(Readable.from([ANSWER.subarray(0, at)]))
      if (BOUNDARIES.includes(at)) expect((await broken).how).toBe('ended')
      else await expect(broken).rejects.toThrow('broke off inside a packet')
    }
    const from = Readable.from([Buffer.from('HTTP/1.1 500')])
    await expect(relayed(from)).rejects.toMatchObject({ code: 'ERR_PKT_LENGTH' })
    expect(from.destroyed).toBe(true)
  })

  test('whose host fails is an error, and a late failure of the host is nobody’s', async () => {
    const from = new PassThrough()
    const failing = relayed(from)
    from.destroy(new Error('reset'))
    await expect(failing).rejects.toThrow('reset')
    const late = new PassThrough()
    const to = reader()
    const session = openSession(to)
    const running = relay(late, to, session, { framed: true })
    cutNow(session)
    expect(await running).toBe('stopped')
    late.emit('error', new Error('late'))
  })

  test('without packets around it is passed as it comes', async () => {
    const bare = Buffer.from('PACK, and no packet')
    expect((await relayed(trickle(bare), { framed: false })).got).toEqual(bare)
  })
})

describe('a cut', () => {
  test('falls between two packets, wherever the bytes had come to', async () => {
    for (let at = 0; at < ANSWER.length; at++) {
      const from = new PassThrough()
      const to = reader()
      const session = openSession(to)
      const running = relay(from, to, session, { framed: true })
      from.write(ANSWER.subarray(0, at))
      await turn()
      cutNow(session)
      from.write(ANSWER.subarray(at))
      expect(await running).toBe('stopped')
      await turn()
      expect(from.destroyed).toBe(true)
      expect(to.got.length).toBe(BOUNDARIES.findLast(end => end <= at))
      expect(to.got).toEqual(ANSWER.subarray(0, to.got.length))
      expect(to.writable).toBe(true)
    }
  })

  test('that came before the answer lets none of it through', async () => {
    const to = reader()
    const session = openSession(to)
    cutNow(session)
    expect(await relay(Readable.from([ANSWER]), to, session, { framed: true })).toBe('stopped')
    expect(to.got).toHaveLength(0)
  })

  test('is what a client that left is, too', async () => {
    for (const leave of ['close', 'error'] as const) {
      const from = new PassThrough()
      const to = reader()
      to.on('error', () => {})
      const running = relay(from, to, openSession(to), { framed: true })
      to.destroy(leave === 'error' ? new Error('EPIPE') : undefined)
      expect(await running).toBe('stopped')
      expect(from.destroyed).toBe(true)
    }
  })
})

describe('a client that reads slowly', () => {
  test('stops the host, and goes on where it stopped', async () => {
    let given = 0
    const packet = line(`\x01${'x'.repeat(60_000)}`)
    const from = new Readable({
      read() {
        given += packet.length
        this.push(given > 64 << 20 ? null : packet)
      },
    })
    const waiting: (() => void)[] = []
    let open = false
    let taken = 0
    const to = new Writable({
      highWaterMark: 65_536,
      write(chunk: Buffer, _encoding, done) {
        taken += chunk.length
        if (open) done()
        else waiting.push(done)
      },
    })
    const running = relay(from, to, openSession(to), { framed: true })
    for (let n = 0; n < 100; n++) await turn()
    expect(given).toBeLessThan(1 << 20)
    open = true
    for (const done of waiting.splice(0)) done()
    expect(await running).toBe('ended')
    expect(taken).toBe(given - packet.length)
  })

  test('is not given the next bytes by a drain while the gate is still asked about them', async () => {
    const from = new PassThrough()
    const to = reader()
    const asked = Promise.withResolvers<boolean>()
    let chunks = 0
    const running = relay(from, to, openSession(to), {
      framed: true,
      before: () => (chunks++ === 0 ? asked.promise : undefined),
    })
    from.write(PACKETS[0]!)
    await turn()
    from.write(PACKETS[1]!)
    to.emit('drain')
    for (let n = 0; n < 5; n++) await turn()
    expect(to.got).toHaveLength(0)
    asked.resolve(true)
    from.end()
    expect(await running).toBe('ended')
    expect(to.got).toEqual(Buffer.concat(PACKETS.slice(0, 2)))
  })
})

describe('what is asked before bytes go on', () => {
  test.each([true, false])('is waited for, and %s decides over them', async allowed => {
    for (let at = 0; at <= ANSWER.length; at++) {
      let started = false
      let asked = false
      const to = reader()
      const from = splitAt(ANSWER, at)
      const how = await relay(from, to, openSession(to), {
        framed: true,
        head: 8,
        watch: (_length, head) => {
          started ||= head[0] === 1
        },
        before: () => {
          if (!started || asked) return undefined
          asked = true
          return turn(allowed)
        },
      })
      expect(asked).toBe(true)
      expect(how).toBe(allowed ? 'ended' : 'stopped')
      if (allowed) expect(to.got).toEqual(ANSWER)
      else expect(BOUNDARIES.slice(0, 2), `split at ${at}`).toContain(to.got.length)
    }
  })

  // A clone of a small repository under a window for one use was told of success, and got nothing.
  test('is waited for though the host has ended meanwhile, and the last bytes arrive', async () => {
    const to = reader()
    const before = () => turn().then(() => turn(true))
    const how = await relay(Readable.from([ANSWER]), to, openSession(to), { framed: true, before })
    expect(how).toBe('ended')
    expect(to.got).toEqual(ANSWER)
    const broken = relay(Readable.from([ANSWER.subarray(0, -2)]), to, openSession(to), { framed: true, before })
    await expect(broken).rejects.toThrow('broke off inside a packet')
  })

  test('and fails, fails the relay with none of them passed', async () => {
    const to = reader()
    const asking = relay(Readable.from([ANSWER]), to, openSession(to), {
      framed: true,
      before: () => Promise.reject(new Error('no answer')),
    })
    await expect(asking).rejects.toThrow('no answer')
    expect(to.got).toHaveLength(0)
  })

  test('does not matter any more after a cut', async () => {
    const to = reader()
    const session = openSession(to)
    const asked = Promise.withResolvers<boolean>()
    const running = relay(Readable.from([ANSWER]), to, session, { framed: true, before: () => asked.promise })
    await turn()
    cutNow(session)
    expect(await running).toBe('stopped')
    asked.resolve(true)
    await turn()
    expect(to.got).toHaveLength(0)
  })
})

test('what is slipped in comes once, between two packets and before the last flush, wherever the answer is split', async () => {
  const note = line('\x02let through')
  const places = BOUNDARIES.slice(0, -1).map(at => Buffer.concat([ANSWER.subarray(0, at), note, ANSWER.subarray(at)]))
  for (let at = 0; at <= ANSWER.length; at++) {
    for (const readyAfter of [0, 1, 2]) {
      let asked = 0
      const { got } = await relayed(splitAt(ANSWER, at), { insert: () => (asked++ < readyAfter ? undefined : note) })
      const expected = got.length === ANSWER.length ? [ANSWER] : places
      expect(
        expected.some(each => each.equals(got)),
        `split at ${at}: ${JSON.stringify(got.toString())}`,
      ).toBe(true)
      if (readyAfter === 0) expect(got.length).toBe(ANSWER.length + note.length)
    }
  }
})
