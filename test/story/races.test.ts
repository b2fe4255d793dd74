import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// Decisions at one moment, sent over HTTP to two control planes that share one Postgres and one Redis. Whoever wins, there
// is one outcome; and where one of the two says no, no is what holds in the end (threats 53, 54 and 56).

const POLICY = `version: 1
groups: { leads: [mona, raj, lena] }
requests:
  - { name: two, trigger: push, repositories: two/*, approvers: { n: 2, of: [leads] } }
  - { name: push, trigger: push, approvers: leads, window: { longest: 4h, default: 1h } }
`
/** `DRAWBRIDGE_RACES=1000` is the whole of it, see docs/figures.md. */
const ROUNDS = Number(process.env.DRAWBRIDGE_RACES ?? 40)
/** So many that the API would take them for a flood from one address. */
const PAUSE_MILLISECONDS = ROUNDS > 100 ? 150 : 0
const PATIENCE = { timeout: 60_000 + ROUNDS * 3_000 }

let redis: Redis
let database: Postgres
let planes: ControlPlane[]
let client: Client
let store: Store

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  const engines = { redis: redis.url, postgres: database.url }
  const people = { dana: 'developer', mona: 'approver', raj: 'approver', lena: 'approver', root: 'admin' }
  const first = await startControlPlane(engines, people, POLICY)
  // The second signs and checks tokens by the same key, as control planes behind one address do.
  planes = [first, await startControlPlane(engines, {}, POLICY, {}, first)]
  client = connectRedis(redis.url, () => {})
  await untilReady(client, 5_000)
  store = createStore({ redis: client })
})
afterAll(async () => {
  client?.disconnect()
  for (const plane of planes ?? []) await plane.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

interface Answer {
  readonly status: number
  readonly body: {
    readonly id: string
    readonly state: string
    readonly digest: string
    readonly votes: readonly { readonly by: string }[]
    readonly grants: readonly { readonly id: string; readonly state: string }[]
  }
}

async function call(plane: number, principal: string, path: string, body?: object): Promise<Answer> {
  const { url, folder } = { ...planes[plane]!, folder: planes[0]!.folder }
  const token = readFileSync(join(folder, principal), 'utf8').trim()
  const answer = await fetch(`${url}/api/v1${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: (await answer.json()) as Answer['body'] }
}

const ask = async (repository: string) =>
  (await call(0, 'dana', '/requests', { repository, actions: ['update'], refs: ['main'], for: '1h' })).body
const approve = (plane: number, who: string, { id, digest }: Answer['body']) =>
  call(plane, who, `/requests/${id}/approve`, { digest })

/** Redis once it has been told everything: which grants of dana's are live. */
async function live(): Promise<string[]> {
  const told = await store.standing('dana')
  return told.grants.filter(({ state }) => state === 'live').map(({ id }) => id)
}

test(`approve against withdraw, ${ROUNDS} times: nothing stands afterwards`, PATIENCE, async () => {
  const outcomes = { withdrawn: 0, approved: 0 }
  for (let round = 0; round < ROUNDS; round++) {
    await sleep(PAUSE_MILLISECONDS)
    const asked = await ask(`acme/withdrawn-${round}`)
    await Promise.all([
      approve(round % 2, 'mona', asked),
      call((round + 1) % 2, 'dana', `/requests/${asked.id}/withdraw`, {}),
    ])
    const { body } = await call(0, 'dana', `/requests/${asked.id}`)
    expect(Object.keys(outcomes)).toContain(body.state)
    outcomes[body.state as keyof typeof outcomes]++
    for (const grant of body.grants) expect(grant.state).toBe('released')
  }
  await until(async () => (await live()).length === 0, 'Redis to have heard of it')
  // Otherwise one order was never tried; of a few rounds the same may win each.
  if (ROUNDS > 100) expect(Math.min(...Object.values(outcomes)), JSON.stringify(outcomes)).toBeGreaterThan(0)
})

test(
  `an extension approved against a revocation, ${ROUNDS} times: the window is over afterwards`,
  PATIENCE,
  async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(PAUSE_MILLISECONDS)
      const asked = await ask(`acme/revoked-${round}`)
      const [grant] = (await approve(0, 'mona', asked)).body.grants
      const extension = (await call(0, 'dana', `/requests/${asked.id}/extend`, { for: '3h' })).body
      await Promise.all([
        approve(round % 2, 'mona', extension),
        call((round + 1) % 2, 'root', `/grants/${grant?.id}/revoke`, { reason: 'no more' }),
      ])
      expect((await call(0, 'dana', `/requests/${asked.id}`)).body.grants).toMatchObject([{ state: 'revoked' }])
      // What came too late to be approved would wait on.
      await call(0, 'dana', `/requests/${extension.id}/withdraw`, {})
    }
    await until(async () => (await live()).length === 0, 'Redis to have heard of it')
  },
)

test(
  `two approvals and their double clicks, ${ROUNDS} times: one window, a vote for each person`,
  PATIENCE,
  async () => {
    const opened: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(PAUSE_MILLISECONDS)
      const asked = await ask(`two/${round}`)
      const clicks = ['mona', 'raj', 'mona', 'raj'].map((who, click) => approve((round + click) % 2, who, asked))
      await Promise.all(clicks)
      const { body } = await call(1, 'dana', `/requests/${asked.id}`)
      expect(body.state).toBe('approved')
      expect(body.votes.map(({ by }) => by).toSorted()).toEqual(['mona', 'raj'])
      expect(body.grants).toHaveLength(1)
      opened.push(...body.grants.map(({ id }) => id))
      await call(0, 'dana', `/grants/${body.grants[0]?.id}/release`, {})
    }
    expect(new Set(opened).size).toBe(ROUNDS)
    await until(async () => (await live()).length === 0, 'Redis to have heard of it')
  },
)
