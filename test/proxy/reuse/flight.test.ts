import { PassThrough, Readable } from 'node:stream'
import { afterEach, expect, test, vi } from 'vitest'
import { FLUSH, line } from '../../../proxy/git/pktline.ts'
import { band } from '../../../proxy/git/sideband.ts'
import { Flight } from '../../../proxy/reuse/flight.ts'
import { type Disk, SpoolError } from '../../../proxy/reuse/spool.ts'
import type { Upstream } from '../../../proxy/upstream/upstream.ts'
import { temporaryFolder } from '../../support/program.ts'

const disk: Disk = { take: () => true, give: () => {} }
const PACK = [line('packfile'), band(1, Buffer.from('PACK…'))]

const flights: Flight[] = []
afterEach(() => {
  for (const flight of flights.splice(0)) {
    flight.abandon()
    flight.discard()
  }
})

/** A flight to a host whose answer the test writes. */
function fly() {
  const answer = new PassThrough()
  const onLanded = vi.fn()
  let signal: AbortSignal | undefined
  const close = vi.fn()
  const upstream: Upstream = {
    conversational: false,
    advertise: () => Promise.reject(new Error('was asked to advertise')),
    async exchange(_body, given) {
      signal = given
      return answer
    },
    close,
  }
  const flight = new Flight({
    folder: temporaryFolder('flight'),
    disk,
    upstream: () => upstream,
    request: Readable.from([Buffer.from('request')]),
    shallow: false,
    onLanded,
  })
  flights.push(flight)
  return { answer, flight, onLanded, close, signal: () => signal }
}

const live = () => new AbortController().signal

async function text(reader: Readable): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of reader) parts.push(part)
  return Buffer.concat(parts).toString('latin1')
}

test('who asked first and who came while it flew read the same; then it is kept', async () => {
  const { answer, flight, onLanded, close } = fly()
  const led = flight.lead(live())
  const followed = flight.follow(live())
  answer.write(Buffer.concat(PACK))
  const readers = [await led, await followed, await flight.follow(live())]
  expect(flight.state).toBe('flying')
  answer.end(FLUSH)
  const whole = Buffer.concat([...PACK, FLUSH]).toString('latin1')
  expect(await Promise.all(readers.map(text))).toEqual([whole, whole, whole])
  await vi.waitFor(() => expect(onLanded).toHaveBeenCalledWith(flight))
  expect(flight.state).toBe('kept')
  expect(close).toHaveBeenCalled()
  expect(await text(await flight.follow(live()))).toBe(whole)
})

test('a follower waits until it is known to be a pack: an error is for who asked first alone', async () => {
  const { answer, flight } = fly()
  const led = flight.lead(live())
  const followed = flight.follow(live())
  answer.end(line('ERR not for everybody'))
  await expect(followed).rejects.toThrow(SpoolError)
  expect(await text(await led)).toContain('ERR not for everybody')
  expect(flight.state).toBe('over')
})

test('the first to ask may leave: the others read on, and the host is let go of only with the last', async () => {
  const { answer, flight, signal } = fly()
  const led = flight.lead(live())
  const followed = flight.follow(live())
  answer.write(Buffer.concat(PACK))
  ;(await led).destroy()
  const reader = await followed
  await new Promise(resolve => setImmediate(resolve))
  expect(signal()?.aborted).toBe(false)
  answer.write(band(1, Buffer.from('more')))
  reader.destroy()
  await vi.waitFor(() => expect(signal()?.aborted).toBe(true))
  expect(flight.state).toBe('over')
})

test('a host that fails before its first byte: who asked first hears its reason, the others may ask themselves', async () => {
  const { answer, flight } = fly()
  const led = flight.lead(live())
  const followed = flight.follow(live())
  answer.destroy(new Error('the Git host broke off'))
  await expect(led).rejects.toThrow('the Git host broke off')
  await expect(followed).rejects.toThrow()
})

test('a host that fails in mid-pack fails everybody who reads, and is not kept', async () => {
  const { answer, flight, onLanded } = fly()
  const led = flight.lead(live())
  const followed = flight.follow(live())
  answer.write(Buffer.concat(PACK))
  const readers = [await led, await followed]
  answer.destroy(new Error('the Git host broke off'))
  for (const reader of readers) await expect(text(reader)).rejects.toThrow('the Git host broke off')
  await vi.waitFor(() => expect(onLanded).toHaveBeenCalled())
  expect(flight.state).toBe('over')
})

test.each<[string, Buffer[]]>([
  ['ends without its flush packet', PACK],
  ['ends inside a packet', [...PACK, Buffer.from('0010')]],
  ['ends with an error on band 3', [...PACK, band(3, Buffer.from('aborting')), FLUSH]],
  ['turns into something that is no packet', [...PACK, Buffer.from('zzzz')]],
])('an answer that %s is handed on as it is, and not kept', async (_what, packets) => {
  const { answer, flight, onLanded } = fly()
  const led = flight.lead(live())
  answer.end(Buffer.concat(packets))
  expect(await text(await led)).toBe(Buffer.concat(packets).toString('latin1'))
  await vi.waitFor(() => expect(onLanded).toHaveBeenCalled())
  expect(flight.state).toBe('over')
})

test('who waits for it and has to go, goes at once', async () => {
  const { flight, signal } = fly()
  const cut = new AbortController()
  const led = flight.lead(cut.signal)
  const followed = flight.follow(cut.signal)
  cut.abort(new Error('cut'))
  await expect(led).rejects.toThrow('cut')
  await expect(followed).rejects.toThrow('cut')
  await vi.waitFor(() => expect(signal()?.aborted).toBe(true))
})
