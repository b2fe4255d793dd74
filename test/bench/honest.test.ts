import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { compared, over, percentile, timed } from '../../bench/case.ts'
import { load } from '../../bench/load.ts'
import { picture } from '../../bench/picture.ts'
import { figureTable, goalTable, isReached } from '../../bench/table.ts'

const DELAY = 60
const quiet = { rounds: 3, say: () => {} }

async function server(delay: number): Promise<URL> {
  const http = createServer(async (_request, response) => {
    if (delay > 0) await sleep(delay)
    response.end('refs')
  })
  await once(http.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void http.close())
  return new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/`)
}

test('a delay put into one way shows in its time and in its ratio, and in nobody else’s', async () => {
  const [plain, delayed] = [await server(0), await server(DELAY)]
  const result = await timed(
    [
      { name: 'direct', run: () => fetch(plain) },
      { name: 'delayed', run: () => fetch(delayed) },
    ],
    quiet,
  )
  expect(result.get('delayed')!.seconds - result.get('direct')!.seconds).toBeGreaterThan((DELAY * 0.8) / 1000)
  const [direct, slow] = compared('asking', result)
  expect(direct).not.toHaveProperty('ratio')
  expect(slow!.ratio).toBe(over(result, 'delayed', 'direct'))
  expect(slow!.ratio).toBeGreaterThan(1)
})

test('a delay shows in the latencies of a load, one request for each', async () => {
  const asked = { headers: [], connections: 2, seconds: 0.4 }
  const fast = await load({ ...asked, url: await server(0) })
  const slow = await load({ ...asked, url: await server(DELAY) })
  expect(slow.latencies).toHaveLength(slow.requests)
  expect(percentile(slow.latencies, 0)).toBeGreaterThan(DELAY * 0.8)
  expect(percentile(fast.latencies, 0)).toBeLessThan(percentile(slow.latencies, 0))
})

test('an answer other than 200 is no figure', async () => {
  const http = createServer((_request, response) => response.writeHead(503).end())
  await once(http.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void http.close())
  const url = new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/`)
  await expect(load({ url, headers: [], connections: 1, seconds: 0.2 })).rejects.toThrow('503')
})

test('only the CPU of the process that is asked about is counted', async () => {
  const burn = "process.stdin.on('data', () => { let i = 2e8; while (i-- > 0); process.stdout.write('.') })"
  const child = spawn(process.execPath, ['-e', burn])
  onTestFinished(() => void child.kill())
  const work = async () => {
    child.stdin.write('.')
    await once(child.stdout, 'data')
  }
  const ways = [
    { name: 'counted', pid: child.pid!, run: work },
    { name: 'somebody else’s', pid: process.pid, run: work },
    { name: 'nobody’s', run: work },
  ]
  const result = await timed(ways, { ...quiet, rounds: 1 })
  expect(result.get('counted')!.cpu).toBeGreaterThan(result.get('somebody else’s')!.cpu)
  expect(result.get('nobody’s')!.cpu).toBeNaN()
})

test('what was not measured reaches no goal, and the table says which were reached', () => {
  const goals = [
    { what: 'fast', figure: 1.01, most: 1.02, unit: '×' },
    { what: 'often', figure: 1.2, least: 1.5, unit: '×' },
    { what: 'never run', figure: Number.NaN, most: 1, unit: '×' },
  ]
  expect(goals.map(isReached)).toEqual([true, false, false])
  const text = goalTable(goals)
  expect(text).toContain('| fast | ≤ 1.02 × | 1.01 × | yes |')
  expect(text).toContain('| often | ≥ 1.5 × | 1.20 × | no |')
  const figures = [{ what: 'clone', way: 'nginx', value: '1 s', ratio: 1.5, cpuPerGigabyte: 0.5 }]
  expect(figureTable(figures)).toContain('| clone | nginx | 1 s | 1.50 × | 0.50 |')
})

test('the picture has a bar for each ratio, as long as it is', () => {
  const svg = picture(
    [
      { what: 'a<b', way: 'nginx', value: '', ratio: 1 },
      { what: 'c', way: 'drawbridge', value: '', ratio: 2 },
      { what: 'd', way: 'direct', value: '' },
    ],
    'here',
  )
  const [one, two, ...none] = [...svg.matchAll(/width="([\d.]+)" height="14"/g)].map(match => Number(match[1]))
  expect(two).toBeCloseTo(2 * one!, 0)
  expect(none).toEqual([])
  expect(svg).not.toContain('a<b')
})

test('a connection for each request is a connection for each request', async () => {
  const seen = new Set<number | undefined>()
  const http = createServer((request, response) => {
    seen.add(request.socket.remotePort)
    response.end('refs')
  })
  await once(http.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void http.close())
  const url = new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/`)
  const asked = { url, headers: [], connections: 2, seconds: 0.1 }
  await load(asked)
  expect(seen.size).toBe(2)
  seen.clear()
  const { requests } = await load({ ...asked, each: 'connection' })
  expect(seen.size).toBe(requests)
})
