import type { ChildProcess } from 'node:child_process'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type Handing, startHanding } from '../../../deploy/workers/handing.ts'
import type { ToWorker } from '../../../deploy/workers/messages.ts'
import type { Worker } from '../../../deploy/workers/pool.ts'
import { until } from '../../support/program.ts'

interface FakeWorker extends Worker {
  /** The connections it was given, and the sockets they came with. */
  readonly given: { readonly connection: number; readonly socket: Socket | undefined }[]
}

function fakeWorker(number: number): FakeWorker {
  const given: FakeWorker['given'] = []
  return {
    number,
    child: undefined as unknown as ChildProcess,
    given,
    send: (message: ToWorker, socket) => {
      if (message.kind === 'connection') given.push({ connection: message.connection, socket })
    },
  }
}

async function handingTo(workers: FakeWorker[], connections = 100) {
  const handing = await startHanding({
    listen: { http: { host: '127.0.0.1', port: 0 }, ssh: { host: '127.0.0.1', port: 0 } },
    connections: () => connections,
    serving: () => workers,
    log: { info: () => {}, warn: () => {}, error: () => {} },
  })
  const clients: Socket[] = []
  onTestFinished(() => {
    handing.close()
    for (const client of clients) client.destroy()
  })
  return {
    handing,
    /** Connects from an address of this machine, and waits until it has been handed to somebody. */
    call: async (front: 'http' | 'ssh', localAddress = '127.0.0.1') => {
      const before = total(workers)
      const client = connect({ ...portOf(handing, front), localAddress }).on('error', () => {})
      clients.push(client)
      await until(() => total(workers) > before || client.destroyed, 'the connection to be handed over')
      return client
    },
    client: (front: 'http' | 'ssh') => {
      const client = connect(portOf(handing, front)).on('error', () => {})
      clients.push(client)
      return client
    },
  }
}

const total = (workers: readonly FakeWorker[]) => workers.reduce((sum, { given }) => sum + given.length, 0)
const portOf = (handing: Handing, front: 'http' | 'ssh') => ({ port: handing.addresses[front]!.port })
const counts = (workers: readonly FakeWorker[]) => workers.map(({ given }) => given.length)

test('the connections of a source are spread evenly, whoever else has connections where', async () => {
  const workers = [fakeWorker(1), fakeWorker(2)]
  const { handing, call } = await handingTo(workers)
  for (let n = 0; n < 6; n++) await call('http')
  expect(counts(workers)).toEqual([3, 3])
  // All that worker 1 has are gone; the next of that source go there, those of another to whoever has fewer at all.
  for (const { connection } of workers[0]!.given) {
    handing.taken(connection)
    handing.left(connection)
  }
  for (let n = 0; n < 3; n++) await call('http')
  expect(counts(workers)).toEqual([6, 3])
  await call('ssh', '127.0.0.2')
  await call('ssh', '127.0.0.2')
  expect(counts(workers)).toEqual([7, 4])
})

test('short connections one after the other go round', async () => {
  const workers = [fakeWorker(1), fakeWorker(2)]
  const { handing, call } = await handingTo(workers)
  for (let n = 1; n <= 4; n++) {
    await call('http')
    handing.left(n)
  }
  expect(counts(workers)).toEqual([2, 2])
})

// With node:cluster such a client hangs for ever: nobody has its socket, and nobody closes it.
test('what a worker had not taken when it died goes to another; what it had is gone with it', async () => {
  const workers = [fakeWorker(1), fakeWorker(2)]
  const [first, second] = workers as [FakeWorker, FakeWorker]
  const { handing, call } = await handingTo(workers)
  await call('http')
  await call('http')
  await call('http')
  handing.taken(first.given[0]!.connection)
  workers.splice(0, 1)
  handing.gone(first)
  expect(second.given.map(({ connection }) => connection)).toEqual([2, 3])
  expect(second.given[1]!.socket?.destroyed).toBe(false)
  // Its count went with it: the limit is not used up by the dead.
  workers.push(fakeWorker(3))
  for (let n = 0; n < 2; n++) await call('http')
  expect(counts(workers)).toEqual([2, 2])
})

test('our own copy of a socket is closed once the worker has its own', async () => {
  const worker = fakeWorker(1)
  const { handing, call } = await handingTo([worker])
  await call('ssh')
  const { connection, socket } = worker.given[0]!
  expect(socket?.destroyed).toBe(false)
  handing.taken(connection)
  expect(socket?.destroyed).toBe(true)
})

test('while nobody serves a connection waits, and the first to serve gets it', async () => {
  const workers: FakeWorker[] = []
  const { handing, client } = await handingTo(workers)
  const waiting = client('http')
  await new Promise(resolve => waiting.once('connect', resolve))
  const worker = fakeWorker(1)
  workers.push(worker)
  await until(() => {
    handing.retry()
    return worker.given.length === 1
  }, 'it to be handed over')
  expect(waiting.destroyed).toBe(false)
})

test('the limit of connections is counted over all workers, for each front', async () => {
  const workers = [fakeWorker(1), fakeWorker(2)]
  const { handing, call } = await handingTo(workers, 2)
  await call('http')
  await call('http')
  const over = await call('http')
  await until(() => over.destroyed, 'the one too many to be closed')
  expect(counts(workers)).toEqual([1, 1])
  await call('ssh')
  handing.left(1)
  await call('http')
  expect(total(workers)).toBe(4)
})
