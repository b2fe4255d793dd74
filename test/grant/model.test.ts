import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Action, Grant } from '../../grant/grant.ts'
import { checkRepositoryPattern, matchesRepository } from '../../grant/pattern.ts'
import { createStore, type Store } from '../../grant/store.ts'
import { type ConnectedRedis, startConnectedRedis } from '../support/redis.ts'

let server: ConnectedRedis
let redis: Redis
let store: Store

beforeAll(async () => {
  server = await startConnectedRedis()
  redis = server.client
  store = createStore({ redis })
})

afterAll(() => server?.stop())

// The store as it is meant, in a few lines. Windows are either open for hours, over, or yet to come, so that Redis's clock and
// the test's need not agree to the millisecond.
class Model {
  now = 0
  readonly grants = new Map<string, { grant: Grant; expires: number; left: number | undefined }>()
  readonly ended = new Set<string>()
  readonly used = new Map<string, Set<string>>()
  readonly barred = new Set<string>()
  lock: { reason: string | undefined; version: number } = { reason: undefined, version: 0 }
  confirmed = false

  put(grant: Grant): string {
    if (this.ended.has(grant.id)) return 'ended'
    if (grant.expires <= this.now) return 'over'
    const known = this.grants.get(grant.id)
    if (known) known.expires = Math.max(known.expires, grant.expires)
    else this.grants.set(grant.id, { grant, expires: grant.expires, left: grant.uses })
    return 'put'
  }

  extend(id: string, expires: number): string {
    const known = this.grants.get(id)
    if (this.ended.has(id)) return 'ended'
    if (!known) return 'missing'
    if (known.left === 0) return 'ended'
    known.expires = Math.max(known.expires, expires)
    return 'extended'
  }

  ask(repository: string, action: Action, operation?: string, consume: string[] = [], credential?: string): string {
    if (!this.confirmed) return 'unconfirmed'
    if (this.lock.reason !== undefined) return `locked ${this.lock.reason}`
    if (credential !== undefined && this.barred.has(credential)) return `barred ${credential}`
    const counted = (operation !== undefined && this.used.get(operation)) || new Set<string>()
    const live = [...this.grants]
      .filter(([id, { grant, left }]) => {
        const open = grant.starts <= this.now && (left !== 0 || counted.has(id))
        return open && grant.actions.includes(action) && matchesRepository(grant.repository, repository)
      })
      .map(([id]) => id)
      .sort()
    const say = (kind: string) =>
      `${kind} ${live.map(id => `${id}:${this.grants.get(id)?.left ?? ''}:${this.grants.get(id)?.expires}`).join(' ')}`
    if (operation === undefined) return say('live')
    if (consume.some(id => !live.includes(id))) return say('spent')
    for (const id of consume) {
      if (counted.has(id)) continue
      counted.add(id)
      const known = this.grants.get(id)
      if (known?.left !== undefined) known.left--
    }
    this.used.set(operation, counted)
    return say('live')
  }
}

const HOUR = 3_600_000
const ids = ['g-1', 'g-2', 'g-3']
const id = fc.constantFrom(...ids)
const operation = fc.constantFrom('op-1', 'op-2')
const reason = fc.constantFrom('stolen', 'left')

// What a grant is never changes under its id; so each id has one make, chosen for the run.
const make = fc.record({
  repository: fc.constantFrom('acme/api', 'acme/*', 'acme/**', '**', 'other/*'),
  actions: fc.subarray<Action>(['fetch', 'update', 'force'], { minLength: 1 }),
  uses: fc.option(fc.integer({ min: 1, max: 2 }), { nil: undefined }),
  starts: fc.constantFrom(-1, 10),
})

type Step = { readonly name: string; run(model: Model, principal: string, makes: Make[]): Promise<void> }
type Make = { repository: string; actions: Action[]; uses: number | undefined; starts: number }

const steps = fc.oneof(
  fc.record({ id, hours: fc.constantFrom(-1, 1, 2, 3) }).map(({ id, hours }) => ({
    name: `put ${id} ${hours}`,
    run: async (model: Model, principal: string, makes: Make[]) => {
      const { uses, starts, ...made } = makes[ids.indexOf(id)]!
      const grant: Grant = {
        id,
        principal,
        ...made,
        refs: [],
        starts: model.now + starts * HOUR,
        expires: model.now + (starts > 0 && hours > 0 ? starts + hours : hours) * HOUR,
        reason: 'r',
        ...(uses !== undefined && { uses }),
      }
      expect(await store.put(grant)).toBe(model.put(grant))
    },
  })),
  fc.record({ id, hours: fc.constantFrom(1, 5, 20) }).map(({ id, hours }) => ({
    name: `extend ${id} ${hours}`,
    run: async (model: Model, principal: string) => {
      const expires = model.now + hours * HOUR
      expect(await store.extend({ principal, grant: id, expires })).toBe(model.extend(id, expires))
    },
  })),
  id.map(id => ({
    name: `revoke ${id}`,
    run: async (model: Model, principal: string) => {
      await store.revoke({ principal, grant: id, reason: 'enough' })
      model.grants.delete(id)
      model.ended.add(id)
    },
  })),
  fc
    .record({ reason: fc.option(reason, { nil: undefined }), version: fc.integer({ min: 1, max: 5 }) })
    .map(({ reason, version }) => ({
      name: reason === undefined ? `unlock ${version}` : `lock ${version}`,
      run: async (model: Model, principal: string) => {
        if (reason === undefined) await store.unlock(principal, version)
        else await store.lock(principal, reason, version)
        if (version >= model.lock.version) model.lock = { reason, version }
      },
    })),
  fc.constantFrom('token:t-1', 'key:SHA256:x').map(credential => ({
    name: `bar ${credential}`,
    run: async (model: Model, principal: string) => {
      await store.bar(principal, credential, { reason: 'revoked' })
      model.barred.add(credential)
    },
  })),
  fc.boolean().map(confirmed => ({
    name: confirmed ? 'confirm' : 'doubt',
    run: async (model: Model) => {
      const ticket = await store.doubt()
      if (confirmed) expect(await store.confirm(ticket)).toBe(true)
      model.confirmed = confirmed
    },
  })),
  fc
    .record({
      repository: fc.constantFrom('acme/api', 'acme/team/api', 'other/api', 'acme/../api'),
      action: fc.constantFrom<Action>('fetch', 'update', 'force', 'delete'),
      use: fc.option(fc.record({ operation, consume: fc.subarray(ids) }), { nil: undefined }),
      credential: fc.constantFrom('token:t-1', 'token:t-2'),
    })
    .map(({ repository, action, use, credential }) => ({
      name: `ask ${repository} ${action} ${use ? `${use.operation} ${use.consume}` : ''} ${credential}`,
      run: async (model: Model, principal: string) => {
        const consume = use && { operation: `${principal}-${use.operation}`, grants: use.consume }
        const credentials = [credential]
        const answer = await store.ask({
          principal,
          credentials,
          repository,
          actions: [action],
          ...(consume && { consume }),
        })
        const said =
          answer.kind === 'locked'
            ? `locked ${answer.reason}`
            : answer.kind === 'barred'
              ? `barred ${answer.credential}`
              : 'grants' in answer
                ? `${answer.kind} ${answer.grants.map(g => `${g.id}:${g.left ?? ''}:${g.expires}`).join(' ')}`
                : answer.kind
        expect(said).toBe(model.ask(repository, action, consume?.operation, use?.consume, credential))
      },
    })),
)

test('whatever happens in whatever order, the store answers as the model does', async () => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(steps as fc.Arbitrary<Step>, { minLength: 1, maxLength: 40 }),
      fc.array(make, { minLength: 3, maxLength: 3 }),
      async (todo, makes) => {
        const model = new Model()
        model.now = await store.now()
        // The principal is new each time; the fence is everybody's, and begins closed.
        await store.doubt()
        await store.confirm(await store.doubt())
        model.confirmed = true
        const principal = `p-${run++}`
        for (const step of todo) await step.run(model, principal, makes)
      },
    ),
    { numRuns: 200 },
  )
})

const name = fc
  .array(fc.string({ unit: fc.constantFrom('a', 'b', '\u00e9', '%', '.', '-'), minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 5,
  })
  .map(parts => parts.join('/'))
const pattern = fc
  .array(
    fc.oneof(
      fc.string({ unit: fc.constantFrom('a', 'b', '\u00e9', '%', '.', '-', '*'), minLength: 1, maxLength: 4 }),
      fc.constant('**'),
    ),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  .map(parts => parts.join('/'))

test('a pattern means in Redis what it means here', async () => {
  await store.confirm(await store.doubt())
  const now = await store.now()
  let run = 0
  await fc.assert(
    fc.asyncProperty(pattern, fc.array(name, { minLength: 1, maxLength: 8 }), async (repository, names) => {
      fc.pre(checkRepositoryPattern(repository) === undefined)
      const principal = `q-${run++}`
      await store.put({
        id: 'g-1',
        principal,
        repository,
        actions: ['fetch'],
        refs: [],
        starts: now,
        expires: now + HOUR,
        reason: 'r',
      })
      for (const name of names) {
        const answer = await store.ask({ principal, credentials: [], repository: name, actions: ['fetch'] })
        const found = answer.kind === 'live' && answer.grants.length === 1
        expect(found, `${repository} ${name}`).toBe(matchesRepository(repository, name))
      }
    }),
    { numRuns: 300 },
  )
})
