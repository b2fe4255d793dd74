import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Caller } from '../../admin/api/access.ts'
import { castVote, withdrawRequest } from '../../admin/decide.ts'
import { extensionWish } from '../../admin/extend.ts'
import { fileRequest, type Wish } from '../../admin/file.ts'
import { createPolicyInForce, type Standing } from '../../admin/policy.ts'
import { endGrant } from '../../admin/register/grants.ts'
import { findRequest } from '../../admin/register/requests.ts'
import { sweepRequests } from '../../admin/sweep.ts'
import { loadPolicy } from '../../config/policy/load.ts'
import { isObserved } from '../../grant/observe.ts'
import { GRANTS_PER_PRINCIPAL_MAX } from '../../grant/store.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Engines, HOUR, startEngines } from './control.ts'

const POLICY = `
version: 1
people: { dana: [dana, dana-bot], mona: [mona], raj: [raj], kim: [kim] }
groups: { leads: [mona, raj, dana] }
delegates: [{ from: mona, to: lea, since: 2026-01-01, until: 2999-12-31 }]
requests:
  - { name: two, trigger: push, repositories: acme/two, approvers: { n: 2, of: [leads] } }
  - { name: touched, trigger: push, repositories: acme/docs, paths: { only: [docs/**] }, approvers: leads }
  - name: quiet
    trigger: push
    repositories: acme/quiet
    approvers: leads
    escalate: { after: 20m, to: [kim] }
  - { name: hers, trigger: push, repositories: own/dana, who: person:dana, approvers: leads }
  - name: nightly
    trigger: push
    repositories: acme/nightly
    approvers: leads
    window: 2h
    recurring: { hours: { days: mon-sun, from: "04:00", to: "06:00", zone: Europe/Berlin }, longest: 2 weeks }
  - { name: export, trigger: fetch, repositories: acme/export, approvers: leads, budget: { uses: 3, bytes: 2GB } }
  - { name: itself, trigger: fetch, repositories: acme/**, automatic: { quota: 2 per day } }
  - { name: one, trigger: push, repositories: acme/**, approvers: leads, timeout: 2h, window: 4h }
`
const standing: Standing = { kind: 'policy', policy: loadPolicy([{ file: 'policy.yaml', text: POLICY }]) }
const caller = (principal: string, roles: Caller['roles'] = ['developer', 'approver']): Caller => ({
  principal,
  roles,
  token: { id: `t-${principal}`, expires: 0 },
})
const push: Wish = { repository: 'acme/api', actions: ['create', 'update'], refs: [], window: HOUR, reason: 'PAY-1' }

const MINUTE = 60_000

let engines: Engines
beforeAll(async () => {
  engines = await startEngines()
})
afterAll(async () => await engines?.stop())
beforeEach(async () => await engines.reset())

async function ask(over: Partial<Wish> = {}, by = 'dana', under = standing) {
  const now = await engines.store.now()
  return await fileRequest(
    engines.act,
    { standing: under, caller: caller(by), address: '127.0.0.1' },
    { ...push, ...over },
    now,
  )
}

async function vote(id: string, by: Caller | string, says: 'approve' | 'deny' = 'approve', digest?: string) {
  const found = await findRequest(engines.sql, id)
  const who = typeof by === 'string' ? caller(by) : by
  const ballot = { id, says, digest: digest ?? found?.request.digest ?? '' }
  await castVote(engines.act, { standing, caller: who }, ballot, await engines.store.now())
}

const withdraw = async (id: string, by = 'dana') =>
  await withdrawRequest(engines.act, { standing, caller: caller(by) }, id, '', await engines.store.now())

/** What stands of a request, by the table of grants and by nothing else. */
async function standingGrants(id: string): Promise<number> {
  const rows = await engines.sql`select id from control.grant where request = ${id} and ended is null`
  return rows.length
}

describe('a request', () => {
  test('opens its window in the commit of the last approval it takes, and Redis hears of it', async () => {
    const enact = engines.enact()
    const { found } = await ask({ repository: 'acme/two' })
    const { id } = found.request
    await vote(id, 'mona')
    expect(await standingGrants(id)).toBe(0)
    await vote(id, 'raj')
    await enact.settle(5_000)
    const { policy } = standing as Extract<Standing, { kind: 'policy' }>
    const approval = { request: id, approvers: ['mona', 'raj'], policy: policy.version }
    const live = [{ repository: 'acme/two', reason: 'PAY-1', ...approval }]
    expect(await engines.store.live('dana')).toMatchObject(live)
    // Redis lost everything, and is told again by somebody who was not there when it was decided.
    await engines.redis.flushall()
    await until(() => engines.store.confirmed(), 'Redis to be told')
    expect(await engines.store.live('dana')).toMatchObject(live)
    expect(await engines.records('grant.issued')).toMatchObject([approval])
    const records = await engines.records()
    const kinds = records.map(({ kind }) => kind)
    expect(kinds).toEqual(['request.made', 'request.vote', 'request.vote', 'request.approved', 'grant.issued'])
    for (const record of records.slice(0, 4)) expect(record).toMatchObject({ policy: policy.version, rule: 'two' })
  })

  test('is one request however often it is asked, and starts over with its votes when its length changes', async () => {
    const first = await ask({ repository: 'acme/two' })
    const { id, digest } = first.found.request
    await vote(id, 'mona')
    const again = await ask({ repository: 'acme/two' })
    expect([again.filed, again.found.request.id, again.found.request.votes.length]).toEqual(['same', id, 1])
    const longer = await ask({ repository: 'acme/two', window: HOUR / 2 })
    expect([longer.filed, longer.found.request.id, longer.found.request.votes.length]).toEqual(['changed', id, 0])
    await expect(vote(id, 'raj', 'approve', digest)).rejects.toThrow(/look at it again/)
    expect(await standingGrants(id)).toBe(0)
  })

  test('two of the same at one moment are one', async () => {
    const filed = await Promise.all(Array.from({ length: 6 }, () => ask()))
    expect(new Set(filed.map(({ found }) => found.request.id)).size).toBe(1)
    expect(filed.filter(one => one.filed === 'new')).toHaveLength(1)
  })

  test('is not approved by who asked, by their other account, by an outsider, a machine or the local socket', async () => {
    const { found } = await ask()
    const { id } = found.request
    await expect(vote(id, 'dana')).rejects.toThrow(/nobody approves/)
    await expect(vote(id, 'DANA-bot')).rejects.toThrow(/nobody approves/)
    await expect(vote(id, caller('dana', ['admin']))).rejects.toThrow(/nobody approves/)
    await expect(vote(id, 'kim')).rejects.toThrow(/not among those/)
    await expect(vote(id, 'service:mona')).rejects.toThrow(/machine/)
    await expect(vote(id, { principal: 'local', roles: ['admin'] })).rejects.toThrow(/local socket/)
    expect(await standingGrants(id)).toBe(0)
  })

  test('is approved in a colleague’s place, which counts once, and never what that colleague asked for', async () => {
    const { id } = (await ask({ repository: 'acme/two' })).found.request
    await vote(id, 'lea')
    await vote(id, 'mona')
    expect(await standingGrants(id)).toBe(0)
    await vote(id, 'raj')
    expect(await standingGrants(id)).toBe(1)
    const hers = (await ask({}, 'mona')).found.request.id
    await expect(vote(hers, 'lea')).rejects.toThrow(/not among those/)
  })

  test('ends by a denial, also after the approval', async () => {
    const { found } = await ask()
    const { id } = found.request
    await vote(id, 'mona')
    expect(await standingGrants(id)).toBe(1)
    await vote(id, 'raj', 'deny')
    expect(await standingGrants(id)).toBe(0)
    expect((await engines.records()).map(({ kind }) => kind).slice(-2)).toEqual(['request.denied', 'grant.ended'])
  })

  test('lapses in the sweep, once, and then takes no vote', async () => {
    const { found } = await ask()
    const { id, lapses } = found.request
    expect(await sweepRequests(engines.sql, engines.act, lapses - 1, 10)).toBe(0)
    await Promise.all([1, 2].map(() => sweepRequests(engines.sql, engines.act, lapses, 10)))
    await expect(vote(id, 'mona')).rejects.toThrow(/lapsed already/)
    expect(await engines.records('request.lapsed')).toHaveLength(1)
  })

  test('that nobody answers goes to others as well, once and on record, and they may approve; changed, it begins anew', async () => {
    const { found } = await ask({ repository: 'acme/quiet' })
    const { id, made } = found.request
    await expect(vote(id, 'kim')).rejects.toThrow(/not among those/)
    const sweep = async (at: number) => await sweepRequests(engines.sql, engines.act, at, 10)
    expect(await sweep(made + 20 * MINUTE - 1)).toBe(0)
    // Two control planes at one moment, and one that was started again.
    await Promise.all([1, 2].map(() => sweep(made + 20 * MINUTE)))
    expect(await sweep(made + 21 * MINUTE)).toBe(0)
    expect(await engines.records('request.escalated')).toMatchObject([
      { by: 'drawbridge', request: id, principal: 'dana', reason: 'no decision within 20m: kim asked as well' },
    ])
    const changed = await ask({ repository: 'acme/quiet', window: HOUR / 2 })
    expect(changed.found.request).toMatchObject({ id, escalated: false })
    await sweep(changed.found.request.made + 20 * MINUTE)
    await vote(id, 'kim')
    expect(await standingGrants(id)).toBe(1)
    expect(await engines.records('request.escalated')).toHaveLength(2)
  })

  test('whose silence ends with the very vote of one who is asked because of it has both on record', async () => {
    const { found } = await ask({ repository: 'acme/quiet' })
    const { id, digest, made } = found.request
    const ballot = { id, says: 'approve', digest } as const
    await castVote(engines.act, { standing, caller: caller('kim') }, ballot, made + 20 * MINUTE)
    const kinds = (await engines.records()).map(({ kind }) => kind)
    expect(kinds).toEqual(['request.made', 'request.escalated', 'request.vote', 'request.approved', 'grant.issued'])
  })

  test('of somebody locked is not approved', async () => {
    const { found } = await ask()
    await engines.sql`insert into control.lock (principal, locked, version, reason, changed_by) values ('dana', true, 1, 'left', 'root')`
    await expect(vote(found.request.id, 'mona')).rejects.toThrow(/dana is locked/)
  })

  test('opens by itself where the rule says so, as often as its quota allows, even when asked all at once', async () => {
    const fetches = Array.from({ length: 5 }, (_, i) => ask({ repository: `acme/r${i}`, actions: ['fetch'] }))
    const answers = await Promise.allSettled(fetches)
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(2)
    expect(await engines.records('request.approved')).toHaveLength(2)
    const { policy } = standing as Extract<Standing, { kind: 'policy' }>
    const byItself = { approvers: [], policy: policy.version }
    expect(await engines.records('grant.issued')).toMatchObject([byItself, byItself])
  })

  test('for several repositories is decided as one, opens them at one moment, and each ends by itself', async () => {
    const enact = engines.enact()
    const two = { repository: 'acme/two', actions: ['update'], refs: ['refs/heads/main'] } as const
    const { found } = await ask({ also: [two, { ...two, actions: ['create'] }] })
    const { id } = found.request
    // Each repository's rule is met: one lead is enough for the first; the second wants two, of whom she is one.
    await vote(id, 'mona')
    expect(await standingGrants(id)).toBe(0)
    await vote(id, 'raj')
    await enact.settle(5_000)
    const live = await engines.store.live('dana')
    expect(live.map(({ repository }) => repository).toSorted()).toEqual(['acme/api', 'acme/two', 'acme/two'])
    expect(new Set(live.map(({ starts }) => starts)).size).toBe(1)
    const [first] = live.filter(({ repository }) => repository === 'acme/api')
    await endGrant(engines.act, { id: first?.id ?? '', how: 'revoked', by: 'root', reason: 'enough' })
    const { grants } = (await findRequest(engines.sql, id))!
    expect(grants.filter(({ ended }) => ended === undefined).map(({ repository }) => repository)).toEqual([
      'acme/two',
      'acme/two',
    ])
  })

  test('for several of which one cannot be had opens none', async () => {
    const other = { repository: 'other/api', actions: ['update'], refs: [] } as const
    await expect(ask({ also: [other] })).rejects.toMatchObject({ status: 403 })
    expect(await engines.records()).toEqual([])
    // Room for all of them, or for none.
    const { found } = await ask({ also: [{ ...other, repository: 'acme/b' }] })
    await engines.sql`
      insert into control.grant (id, principal, repository, actions, refs, starts, expires, reason, issued_by)
      select 'g-' || n, 'dana', 'acme/x', '{fetch}', '{}', now(), now() + interval '1 hour', 'x', 'root'
      from generate_series(1, ${GRANTS_PER_PRINCIPAL_MAX - 1}) as n`
    await expect(vote(found.request.id, 'mona')).rejects.toThrow(/holds .* grants already/)
    expect(await standingGrants(found.request.id)).toBe(0)
    expect((await findRequest(engines.sql, found.request.id))?.request).toMatchObject({ state: 'requested', votes: [] })
  })

  test('for several is the same in whatever order they are named, and starts over when one of them changes', async () => {
    const also = [{ repository: 'acme/b', actions: ['update'], refs: [] }] as const
    const first = await ask({ repository: 'acme/two', also })
    const { id } = first.found.request
    await vote(id, 'mona')
    const turned = await ask({ ...also[0], also: [{ ...push, repository: 'acme/two' }] })
    expect([turned.filed, turned.found.request.id, turned.found.request.votes.length]).toEqual(['same', id, 1])
    const longer = await ask({ repository: 'acme/two', also, window: HOUR / 2 })
    expect([longer.filed, longer.found.request.id, longer.found.request.votes.length]).toEqual(['changed', id, 0])
  })

  test('for somebody else is that person’s by their rule, and neither of the two approves it', async () => {
    const { found } = await ask({ principal: 'eve' }, 'raj')
    const { id, asked } = found.request
    expect([asked.principal, asked.requester]).toEqual(['eve', 'raj'])
    await expect(vote(id, 'raj')).rejects.toThrow(/nobody approves/)
    await expect(vote(id, caller('eve', ['admin']))).rejects.toThrow(/nobody approves/)
    await vote(id, 'mona')
    expect((await findRequest(engines.sql, id))?.grants).toMatchObject([{ principal: 'eve' }])
    // Who asked takes it back; a third does not.
    await expect(withdraw(id, 'mona')).rejects.toThrow(/no request of yours/)
    await withdraw(id, 'raj')
    expect(await standingGrants(id)).toBe(0)
  })

  test('for somebody else opens nothing that nobody approves, whose rule does not name them, or for a job', async () => {
    await expect(ask({ principal: 'eve', actions: ['fetch'] })).rejects.toThrow(/only eve can ask for it/)
    await expect(ask({ principal: 'eve', repository: 'own/dana' })).rejects.toMatchObject({ status: 403 })
    expect((await ask({ principal: 'dana', repository: 'own/dana' }, 'raj')).found.request.state).toBe('requested')
    await expect(ask({ principal: 'ci:github:acme/build' })).rejects.toThrow(/a job asks for itself/)
    expect(await engines.records('grant.issued')).toEqual([])
  })

  test('by a rule that limits paths opens a window with that limit, and with less where less was asked for', async () => {
    const bounds = async ({ found }: Awaited<ReturnType<typeof ask>>) => {
      await vote(found.request.id, 'mona')
      const rows = await engines.sql`select bounds from control.grant where request = ${found.request.id}`
      return rows[0]?.bounds as unknown
    }
    const whole = await ask({ repository: 'acme/docs' })
    const part = await ask({ repository: 'acme/docs', paths: ['docs/guide/**', '!docs/guide/legal'] })
    expect(part.found.request.id).not.toBe(whole.found.request.id)
    expect(await bounds(whole)).toEqual({ paths: [['docs/**']] })
    expect(await bounds(part)).toEqual({ paths: [['docs/**'], ['docs/guide/**', '!docs/guide/legal']] })
    const issued = (await engines.records()).filter(({ kind }) => kind === 'grant.issued')
    expect(issued).toMatchObject([{ paths: [['docs/**']] }, { paths: [['docs/**'], {}] }])
    // What the rule does not speak of is the next one's, without its limit.
    expect(await bounds(await ask({ repository: 'acme/docs', paths: ['src/**'] }))).toEqual({ paths: [['src/**']] })
  })

  test('for more time of a window that limits paths is for the same paths, and by the same rule', async () => {
    const { found } = await ask({ repository: 'acme/docs', paths: ['docs/guide/**'] })
    await vote(found.request.id, 'mona')
    const now = await engines.store.now()
    const standing = await findRequest(engines.sql, found.request.id)
    const wish = extensionWish(standing!, caller('dana'), { window: 2 * HOUR }, now)
    expect(wish.paths).toEqual(['docs/guide/**'])
    // By a rule for other paths, which may be easier to meet.
    const { paths: _, ...without } = wish
    for (const more of [without, { ...wish, paths: ['src/**'] }]) {
      const { found: other } = await ask(more)
      await expect(vote(other.request.id, 'mona')).rejects.toThrow(/other things than the window holds/)
    }
  })

  test('for more time has who approved that, and by which policy, on record with the new end', async () => {
    const { found } = await ask()
    const { id } = found.request
    await vote(id, 'mona')
    const before = await findRequest(engines.sql, id)
    const wish = extensionWish(before!, caller('dana'), { window: 2 * HOUR }, await engines.store.now())
    const { found: more } = await ask(wish)
    await vote(more.request.id, 'raj')
    const { policy } = before!.request.conditions
    const extended = { request: more.request.id, approvers: ['raj'], policy }
    expect(await engines.records('grant.extended')).toMatchObject([{ grant: before!.grants[0]!.id, ...extended }])
    expect((await findRequest(engines.sql, id))?.grants).toMatchObject([{ request: id, approvers: ['mona'], policy }])
  })

  test('that was approved before approvers were kept leaves them unsaid', async () => {
    const { found } = await ask()
    const { id } = found.request
    await vote(id, 'mona')
    await engines.sql`update control.request set content = content - 'approvers'`
    const [grant] = (await findRequest(engines.sql, id))!.grants
    expect(grant).toMatchObject({ request: id, policy: found.request.conditions.policy })
    expect(grant).not.toHaveProperty('approvers')
  })

  test('by a rule with a budget opens a window that ends with it', async () => {
    const { found } = await ask({ repository: 'acme/export', actions: ['fetch'] })
    await vote(found.request.id, 'mona')
    const rows = await engines.sql`select uses, bounds from control.grant where request = ${found.request.id}`
    expect(rows).toMatchObject([{ uses: 3, bounds: { bytes: 2_000_000_000 } }])
  })

  test('for recurring hours opens a window for each time they come: all on record, each with its own end', async () => {
    const enact = engines.enact()
    const wish = { repository: 'acme/nightly', recurring: true, window: 3 * 24 * HOUR }
    const { found } = await ask(wish)
    const { id } = found.request
    expect(await standingGrants(id)).toBe(0)
    expect((await ask(wish)).filed).toBe('same')
    expect((await ask({ ...wish, recurring: false, window: HOUR })).filed).toBe('new')
    await vote(id, 'mona')
    await enact.settle(5_000)
    const issued = await engines.records('grant.issued')
    expect(issued.length).toBeGreaterThanOrEqual(3)
    const { grants } = await engines.store.standing('dana')
    expect(grants.map(one => one.id).sort()).toEqual(issued.map(({ grant }) => grant).sort())
    const berlin = new Intl.DateTimeFormat('en-GB', { timeZone: 'Europe/Berlin', hour: '2-digit', minute: '2-digit' })
    // The first may have begun already, and the last may be cut off by the end that was asked for.
    for (const { starts, expires, state } of grants.toSorted((a, b) => a.starts - b.starts).slice(1, -1)) {
      expect([berlin.format(starts), berlin.format(expires), state]).toEqual(['04:00', '06:00', 'scheduled'])
    }
    const now = await engines.store.now()
    const again = await findRequest(engines.sql, id)
    expect(() => extensionWish(again!, caller('dana'), { window: HOUR }, now)).toThrow(/have their own ends/)
    await vote(id, 'raj', 'deny')
    expect(await standingGrants(id)).toBe(0)
    await expect(ask({ ...wish, window: 15 * 24 * HOUR })).rejects.toThrow(/at most 14d ahead/)
    await expect(ask({ ...wish, repository: 'acme/api' })).rejects.toThrow(/no recurring windows/)
  })

  test('longer than the rule gives, or of what no rule speaks of, is refused and leaves nothing', async () => {
    await expect(ask({ window: 5 * HOUR })).rejects.toThrow(/at most 4h/)
    await expect(ask({ repository: 'other/api' })).rejects.toMatchObject({ status: 403 })
    expect(await engines.records()).toEqual([])
  })

  test('without a policy is approved by an administrator who did not ask', async () => {
    const none: Standing = { kind: 'none' }
    const { found } = await ask({}, 'dana', none)
    const { id } = found.request
    await expect(vote(id, 'mona')).rejects.toThrow(/not among those/)
    await expect(vote(id, caller('dana', ['admin']))).rejects.toThrow(/nobody approves/)
    await vote(id, caller('root', ['admin']))
    expect(await standingGrants(id)).toBe(1)
  })
})

describe('the policy in force', () => {
  test('says what it only observes, aloud', async () => {
    const file = join(temporaryFolder('policy'), 'policy.yaml')
    const said: string[] = []
    const policy = createPolicyInForce(engines.act, { warn: (_facts, sentence) => said.push(sentence) })
    expect(policy.observed()).toEqual({ repositories: [] })
    writeFileSync(file, 'version: 1\nrepositories: [{ match: acme/pilot, mode: observe }]\n')
    await policy.load(file)
    const before = policy.observed()
    expect(isObserved(before, 'acme/pilot')).toBe(true)
    expect(said).toEqual([expect.stringContaining('what would be refused here is let through')])
    writeFileSync(file, 'version: 2\n')
    await policy.load(file)
    expect(policy.observed()).toBe(before)
    await policy.load(undefined)
    expect(policy.observed()).toEqual({ repositories: [] })
  })

  test('stays when a new version does not load, and is recorded; a first one that does not load opens nothing', async () => {
    const file = join(temporaryFolder('policy'), 'policy.yaml')
    const quiet = { warn: () => {} }
    writeFileSync(file, 'version: 2\n')
    const broken = createPolicyInForce(engines.act, quiet)
    await broken.load(file)
    expect(broken.standing().kind).toBe('broken')
    await expect(ask({}, 'dana', broken.standing())).rejects.toMatchObject({ status: 503 })

    writeFileSync(file, POLICY)
    await broken.load(file)
    const good = broken.standing()
    expect(good.kind).toBe('policy')
    writeFileSync(file, `${POLICY}\nnonsense: true\n`)
    await broken.load(file)
    expect(broken.standing()).toBe(good)
    expect((await engines.records()).map(({ kind }) => kind)).toEqual([
      'policy.refused',
      'policy.loaded',
      'policy.refused',
    ])
  })
})

describe('of two decisions at one moment', () => {
  const ROUNDS = 100

  test('a withdrawal leaves nothing standing, whichever comes first: 100 times', async () => {
    let approvedFirst = 0
    for (let round = 0; round < ROUNDS; round++) {
      const { found } = await ask({ repository: `acme/w${round}` })
      const { id } = found.request
      // Apart by more and more, so that both orders come about however long each takes to reach the database.
      const late = async () => await setTimeout(round % 20).then(() => withdraw(id))
      await Promise.allSettled(round % 2 ? [vote(id, 'mona'), late()] : [withdraw(id), vote(id, 'mona')])
      expect(await standingGrants(id), `round ${round}`).toBe(0)
      const { request, grants } = (await findRequest(engines.sql, id))!
      if (request.state === 'approved') approvedFirst++
      expect(grants.length).toBe(request.state === 'approved' ? 1 : 0)
    }
    // Otherwise one order was never tried.
    expect(approvedFirst).toBeGreaterThan(0)
    expect(approvedFirst).toBeLessThan(ROUNDS)
  })

  test('a denial wins over an approval, and two approvals open one window: 100 times', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const { found } = await ask({ repository: `acme/d${round}` })
      const { id } = found.request
      if (round % 2) {
        await Promise.allSettled([vote(id, 'mona'), vote(id, 'raj', 'deny')])
        expect(await standingGrants(id), `round ${round}`).toBe(0)
      } else {
        // A double click, and a colleague at the same moment.
        await Promise.allSettled([vote(id, 'mona'), vote(id, 'mona'), vote(id, 'raj')])
        expect(await standingGrants(id), `round ${round}`).toBe(1)
      }
    }
  })
})
