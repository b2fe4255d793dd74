import { PassThrough, type Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { untilFlush } from '../../../proxy/upstream/untilflush.ts'

const nothing = async () => undefined

async function text(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString('latin1')
}

// A payload that looks like a flush, a delim, a response-end: only lengths count.
const ANSWER = '00080000000100020009hello0000'

test('an answer ends at its flush, wherever it is split, and the next one begins there', async () => {
  for (let split = 0; split <= ANSWER.length; split++) {
    const source = new PassThrough()
    for (let round = 0; round < 2; round++) {
      const answer = untilFlush(source, nothing)
      if (split > 0) source.write(ANSWER.slice(0, split))
      setImmediate(() => split < ANSWER.length && source.write(ANSWER.slice(split)))
      expect(await text(answer)).toBe(ANSWER)
    }
    expect(source.destroyed).toBe(false)
  }
})

test.each(['0', '0004', '0000', '0009hello', 'zzzz'])(
  '%s behind the flush of a conversation is an error',
  async trailing => {
    const source = new PassThrough()
    const answer = untilFlush(source, nothing)
    source.write(ANSWER + trailing)
    await expect(text(answer)).rejects.toMatchObject({ name: 'ProtocolError' })
  },
)

test('a host that ends before its flush is an error, with the reason where one is known', async () => {
  for (let split = 0; split < ANSWER.length; split++) {
    const source = new PassThrough()
    const answer = untilFlush(source, nothing)
    source.end(ANSWER.slice(0, split))
    await expect(text(answer)).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
  }
  const source = new PassThrough()
  const answer = untilFlush(source, async () => new Error('status 128'))
  source.end('0009hello')
  await expect(text(answer)).rejects.toThrow('status 128')
})

test('a host that had ended before anybody asked is an error too', async () => {
  const source = new PassThrough()
  source.destroy()
  await new Promise(resolve => setImmediate(resolve))
  await expect(text(untilFlush(source, nothing))).rejects.toMatchObject({ code: 'ERR_PKT_EOF' })
})

test('a reader who does not read stops the host', async () => {
  const source = new PassThrough()
  const answer = untilFlush(source, nothing)
  answer.once('readable', () => {})
  const packet = Buffer.from(`8000${'x'.repeat(0x8000 - 4)}`)
  let taken = 0
  while (taken < 100 && source.write(packet)) {
    taken++
    await new Promise(resolve => setImmediate(resolve))
  }
  expect(taken).toBeLessThan(20)
})
