import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadSettings } from '../../config/load.ts'
import { asWorker, WORKERS_MAX, workerName, workerNumber } from '../../config/workers.ts'
import { temporaryFolder } from '../support/program.ts'

const folder = temporaryFolder('workers')

function load(more: string) {
  const file = join(folder, 'drawbridge.yaml')
  writeFileSync(
    file,
    `
name: gate
listen: { metrics: { proxy: "127.0.0.1:9091" } }
redis: redis://127.0.0.1:6379/0
postgres: postgres://drawbridge@localhost/drawbridge
${more}
`,
  )
  return loadSettings(file, {})
}

const HOST = 'url: "file:///srv/git/"'

test('a worker has its own name, no listener of its own for metrics, and its share of what is bounded for the machine', () => {
  const settings = load(`
workers: 3
limits: { connections: 100, connections_per_source: 10 }
ledger: { spool: 64MiB }
reuse: { bytes: 1GiB, folder: cache }
upstreams: { local: { ${HOST}, connections: 10 } }`)
  const worker = asWorker(settings, 5)
  expect(worker.name).toBe('gate~5')
  expect(worker.listen).toEqual({ http: settings.listen.http, ssh: settings.listen.ssh, admin: settings.listen.admin })
  expect(worker.limits).toMatchObject({ connections: 100, connectionsPerSource: 4 })
  expect(worker.upstreams.get('local')?.connections).toBe(3)
  expect(worker.ledger.spoolBytes).toBe(Math.floor((64 << 20) / 3))
  expect(worker.reuse).toMatchObject({ bytes: Math.floor(2 ** 30 / 3), folder: join(folder, 'cache', 'gate~5') })
})

test('a bound that is too small to be shared is refused where it stands', () => {
  expect(() => load(`workers: 3\nupstreams: { local: { ${HOST}, connections: 2 } }`)).toThrow(
    /7:\d+: upstreams\.local\.connections: expected 3 or more: each of the 3 workers needs one; found 2/,
  )
  expect(() => load(`workers: ${WORKERS_MAX + 1}\nupstreams: {}`)).toThrow('expected a whole number from 1 to 64')
})

test('a name leads back to its number, and to no other gate', () => {
  // Names as the settings take them.
  const gate = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
  fc.assert(
    fc.property(gate, gate, fc.integer({ min: 1, max: 999 }), (mine, other, number) => {
      expect(workerNumber(mine, workerName(mine, number))).toBe(number)
      expect(workerNumber(mine, mine)).toBe(0)
      if (mine === other) return
      expect(workerNumber(mine, workerName(other, number))).toBeUndefined()
      expect(workerNumber(mine, other)).toBeUndefined()
    }),
  )
  for (const name of ['gate~', 'gate~0', 'gate~01', 'gate~1x', 'gate~1~1', 'gate2'])
    expect(workerNumber('gate', name)).toBeUndefined()
})
