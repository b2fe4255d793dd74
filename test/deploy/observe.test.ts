import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { main as admin } from '../../admin/main.ts'
import { HEADS_FILE } from '../../audit/main.ts'
import { lastHeadIn } from '../../audit/publish.ts'
import { main as ca } from '../../deploy/authority.ts'
import { observe } from '../../deploy/observe.ts'
import { WorkersMetrics } from '../../deploy/workers/main.ts'
import { git, makeRepository } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { plainSettings } from '../support/settings.ts'
import { type Stand, startStand } from '../support/stand.ts'

const WATCH = new URL('../../deploy/watch/', import.meta.url)
const HERE = { host: '127.0.0.1', port: 0 }

let stand: Stand
let watch: Awaited<ReturnType<typeof observe>>

beforeAll(async () => {
  stand = await startStand()
  await makeRepository(join(stand.folder, 'acme/app.git'))
  await stand.grant({ repository: 'web/acme/app' })
  watch = await observe(HERE, stand.proxies[0]!.observed)
})

afterAll(async () => {
  watch?.close()
  await stand?.close()
})

const get = async (path: string) => {
  const response = await fetch(`${watch.url}${path}`)
  return { status: response.status, text: await response.text() }
}

/** The value of one series; undefined when there is none. */
function value(text: string, series: string): number | undefined {
  const line = text.split('\n').find(each => each.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

test('what went through, was refused, and was turned away at the door is counted by words of ours alone', async () => {
  const { url } = await stand.remote('http', 'web/acme/app')
  expect((await git(['ls-remote', url])).status).toBe(0)
  for (const repository of ['web/acme/secret-plan', 'local/acme/app', 'nowhere/acme/app'])
    expect((await git(['ls-remote', (await stand.remote('http', repository)).url])).status).not.toBe(0)
  const stranger = new URL(url)
  stranger.password = 'wrong'
  expect((await git(['ls-remote', stranger.href])).status).not.toBe(0)

  const { text } = await until(async () => {
    const found = await get('/metrics')
    const ended = value(found.text, 'drawbridge_operations_total{service="upload-pack",result="ok",reason="ok"}')
    return ended !== undefined && ended >= 2 && found
  }, 'the ends to be counted')
  expect(
    value(text, 'drawbridge_operations_total{service="upload-pack",result="refused",reason="no-grant"}'),
  ).toBeGreaterThanOrEqual(3)
  expect(value(text, 'drawbridge_upstream_first_byte_seconds_count{upstream="web",service="upload-pack"}')).toBe(2)
  expect(value(text, 'drawbridge_gate_seconds_count{answer="live"}')).toBeGreaterThan(0)
  expect(value(text, 'drawbridge_ledger_append_seconds_count{result="ok"}')).toBeGreaterThan(0)
  expect(text).toMatch(/drawbridge_signins_refused_total\{transport="http",code="[a-z-]+"\} 1/)
  expect(value(text, 'drawbridge_bytes_total{service="upload-pack",direction="out"}')).toBeGreaterThan(0)
  expect(value(text, 'drawbridge_sessions_live')).toBe(0)
  expect(value(text, 'drawbridge_ssh2_patched')).toBe(1)
  // Neither who nor what: whoever asks for a thousand repositories would make a thousand series of it.
  expect(text).not.toMatch(/alice|acme|secret-plan|nowhere/)
})

test('only what is there is answered, and only to GET', async () => {
  expect(await get('/healthz')).toEqual({ status: 200, text: 'ok\n' })
  expect((await get('/')).status).toBe(404)
  expect((await get('/__proto__')).status).toBe(404)
  expect((await fetch(`${watch.url}/metrics`, { method: 'POST' })).status).toBe(405)
})

test('ready means that operations would get through: not without Redis, not without the ledger, not while stopping', async () => {
  const ready = async () => {
    const { status, text } = await get('/readyz')
    return { status, checks: JSON.parse(text).checks as Record<string, string> }
  }
  expect(await ready()).toEqual({ status: 200, checks: { redis: 'ok', ledger: 'ok' } })

  await stand.store.doubt()
  expect(await ready()).toMatchObject({ status: 503, checks: { redis: expect.stringContaining('not confirmed') } })
  await stand.store.confirm(await stand.store.doubt())

  await stand.postgres.stop()
  expect(await ready()).toMatchObject({ status: 503, checks: { redis: 'ok' } })
  expect((await get('/healthz')).status).toBe(200)
  await stand.postgres.restart()
  await until(async () => (await ready()).status === 200, 'ready again')

  const stopping = await observe(HERE, stand.proxies[0]!.observed)
  stopping.stopping()
  expect((await fetch(`${stopping.url}/readyz`)).status).toBe(503)
  stopping.close()
})

test('a check that hangs makes it not ready, rather than silent', async () => {
  const hung = await observe(HERE, { metrics: new Registry(), checks: () => new Promise(() => {}) })
  const response = await fetch(`${hung.url}/readyz`)
  expect(response.status).toBe(503)
  expect(await response.text()).toContain('take too long')
  hung.close()
})

test('every metric that the dashboard and the alerts name is one that a role has', async () => {
  const log = pino({ level: 'silent' })
  const state = temporaryFolder('roles')
  const plain = plainSettings({ redis: stand.redis.url, postgres: stand.postgres.url, state })
  const settings = { ...plain, ledger: { ...plain.ledger, heads: { stdout: false, redis: 'heads' } } }
  const roles = [
    stand.proxies[0]!,
    await admin({ ...settings, ca: { ...settings.ca, configured: true } }, { log }),
    await ca(
      { ...settings, ca: { ...settings.ca, configured: true, passphrase: 'of the test' } },
      { log, trial: true },
    ),
  ]
  const names = new Set<string>()
  const workers = new WorkersMetrics(
    () => [],
    async () => [],
  )
  for (const metrics of [workers, ...roles.map(({ observed }) => observed.metrics)]) {
    for (const { name, type } of await metrics.getMetricsAsJSON()) {
      names.add(name)
      if (String(type) === 'histogram') names.add(`${name}_bucket`)
    }
  }
  await Promise.all(roles.slice(1).map(role => role.close()))
  // The admin role signed a head over what the stand had recorded, and published it where the settings say.
  const redis = new Redis(stand.redis.url)
  const [published] = await redis.xrevrange('heads', '+', '-', 'COUNT', 1)
  redis.disconnect()
  const kept = await lastHeadIn(join(state, 'ledger', HEADS_FILE))
  expect(published?.[1]).toEqual(['head', JSON.stringify(kept)])

  const alerts = parse(readFileSync(new URL('alerts.yaml', WATCH), 'utf8')) as {
    groups: { rules: { alert: string; expr: string; annotations: { summary: string; what_to_do: string } }[] }[]
  }
  const rules = alerts.groups.flatMap(group => group.rules)
  const dashboard = JSON.parse(readFileSync(new URL('dashboard.json', WATCH), 'utf8')) as {
    panels: { id: number; targets: { expr: string }[] }[]
  }
  const expressions = [
    ...rules.map(({ expr }) => expr),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ]
  const named = new Set(expressions.flatMap(expr => expr.match(/\b(?:drawbridge|process)_[a-z0-9_]+/g) ?? []))
  expect(named.size).toBeGreaterThan(20)
  expect([...named].filter(name => !names.has(name))).toEqual([])
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length)
  for (const { annotations } of rules) expect(annotations.what_to_do).toMatch(/\w/)
  expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
})
