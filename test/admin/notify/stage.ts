import { pino } from 'pino'
import type { Caller } from '../../../admin/api/access.ts'
import { castVote } from '../../../admin/decide.ts'
import { fileRequest, type Wish } from '../../../admin/file.ts'
import { announce } from '../../../admin/notify/announce.ts'
import type { Channel } from '../../../admin/notify/channel.ts'
import { type Notify, startNotify } from '../../../admin/notify/notify.ts'
import type { Standing } from '../../../admin/policy.ts'
import { type Act, createAct } from '../../../admin/register/act.ts'
import { findRequest } from '../../../admin/register/requests.ts'
import { cleaner } from '../../../audit/clean.ts'
import type { NotifySettings } from '../../../config/notify.ts'
import { loadPolicy } from '../../../config/policy/load.ts'
import { type Engines, HOUR, startEngines } from '../control.ts'

const POLICY = `
version: 1
people:
  dana: [dana, dana@acme.example]
  mona: [mona, mona@acme.example]
  raj: [raj, raj@acme.example]
  kim: [kim, kim@acme.example]
groups: { leads: [mona, raj, dana], security: [kim] }
on_call:
  night: { turns: { since: "2026-01-05T09:00:00Z", people: [kim] } }
requests:
  - { name: night, trigger: push, repositories: acme/night, approvers: on-call:night }
  - { name: glass, trigger: push, repositories: acme/prod, break_glass: { review: security } }
  - { name: two, trigger: push, repositories: acme/two, approvers: { steps: [leads, security] } }
  - { name: itself, trigger: fetch, repositories: acme/**, automatic: true }
  - { name: slow, trigger: push, repositories: acme/slow, approvers: leads, escalate: { after: 10m, to: [security] } }
  - { name: one, trigger: push, repositories: acme/**, approvers: leads, timeout: 2h, window: 4h, revoke_on_idle: 10m }
`
export const standing: Standing = { kind: 'policy', policy: loadPolicy([{ file: 'policy.yaml', text: POLICY }]) }

export const caller = (principal: string, roles: Caller['roles'] = ['developer', 'approver']): Caller => ({
  principal,
  roles,
  token: { id: `t-${principal}`, expires: 0 },
})

/** Engines whose acts announce what they record, and what tells it. */
export interface Stage extends Engines {
  readonly telling: Act
  ask(over?: Partial<Wish>, by?: string): Promise<string>
  vote(id: string, by: string, says?: 'approve' | 'deny', comment?: string): Promise<void>
  notify(channels: readonly Channel[], over?: Partial<NotifySettings>, clock?: () => number): Notify
  forget(): Promise<void>
}

export async function startStage(): Promise<Stage> {
  const engines = await startEngines()
  const { sql, store } = engines
  const notifies: Notify[] = []
  const telling = createAct({
    sql,
    clean: cleaner(),
    announce: (transaction, records) => announce(transaction, records, Date.now()),
    committed: () => {},
  })
  const stage: Stage = {
    ...engines,
    telling,
    ask: async (over = {}, by = 'dana') => {
      const wish: Wish = {
        repository: 'acme/api',
        actions: ['create', 'update'],
        refs: ['refs/heads/main'],
        window: HOUR,
        reason: 'PAY-1',
        ...over,
      }
      const from = { standing, caller: caller(by), address: '127.0.0.1' }
      return (await fileRequest(telling, from, wish, await store.now())).found.request.id
    },
    vote: async (id, by, says = 'approve', comment) => {
      const found = await findRequest(sql, id)
      const digest = found?.request.digest ?? ''
      const ballot = { id, says, digest, ...(comment !== undefined && { comment }) }
      await castVote(telling, { standing, caller: caller(by) }, ballot, await store.now())
    },
    notify: (channels, over = {}, clock = Date.now) => {
      const settings = { ending: 600_000, giveUp: 24 * HOUR, people: new Map(), channels: [], ...over }
      const policy = { standing: () => standing }
      const log = pino({ level: 'silent' })
      const notify = startNotify({ sql, settings, channels, policy, now: () => store.now(), clock, log })
      notifies.push(notify)
      return notify
    },
    forget: async () => {
      for (const notify of notifies.splice(0)) await notify.close()
      await engines.reset()
      await sql`truncate control.notice, control.delivery, control.link_used`
    },
    stop: async () => {
      for (const notify of notifies.splice(0)) await notify.close()
      await engines.stop()
    },
  }
  return stage
}
