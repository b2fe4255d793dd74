import type { Sql } from 'postgres'
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { type ReaderState, readerStates } from '../audit/forward/state.ts'
import { gauges } from '../audit/metrics.ts'
import type { Store } from '../grant/store.ts'
import type { Enact } from './enact.ts'
import { deliveryCounts } from './notify/outbox.ts'
import { backlog } from './register/outbox.ts'

/** What the control plane counts; asked for when somebody looks. What cannot be asked is left as it was. */
export function controlMetrics(of: {
  readonly sql: Sql
  readonly store: Store
  readonly enact: Pick<Enact, 'state'>
  readonly ledgerSeq: () => number
  /** Why the certificate authority is not followed, if it is not; left out where there is none. */
  readonly authorityFault?: () => string | undefined
  /** The last head signed here. */
  readonly head?: () => { readonly seq: number; readonly time: string } | undefined
  /** Who is told of each record, by their names in the ledger's own table. */
  readonly readers?: () => readonly string[]
}): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const gauge = gauges(registry)
  gauge('drawbridge_outbox_waiting', 'Changes Redis has yet to be told', async () => (await backlog(of.sql)).waiting)
  gauge('drawbridge_outbox_oldest_seconds', 'For how long the oldest of them has waited', async () => {
    return (await backlog(of.sql)).oldest / 1000
  })
  gauge('drawbridge_notices_waiting', 'Notices on their way', async () => (await deliveryCounts(of.sql)).waiting)
  gauge('drawbridge_notices_dead', 'Notices that could not be delivered', async () => {
    return (await deliveryCounts(of.sql)).dead
  })
  gauge('drawbridge_grants_live', 'Windows that are open', async () => (await of.store.live()).length)
  gauge('drawbridge_redis_confirmed', '1 while Redis is known to know every revocation', async () => {
    return Number(await of.store.confirmed())
  })
  gauge('drawbridge_redis_restored', 'How often everything was put back into Redis', () => of.enact.state().restored)
  gauge('drawbridge_enact_last_round_timestamp_seconds', 'When Redis last said what Postgres says', () => {
    return of.enact.state().lastRound / 1000
  })
  gauge('drawbridge_ledger_seq', 'The last record in the ledger, as its writer here knows it', of.ledgerSeq)
  gauge('drawbridge_ledger_head_timestamp_seconds', 'When the last head was signed here; 0: never', () => {
    return Date.parse(of.head?.()?.time ?? '1970-01-01T00:00:00Z') / 1000
  })
  gauge('drawbridge_ledger_head_seq', 'The last record that head covers', () => of.head?.()?.seq ?? 0)
  gauge('drawbridge_inbox_waiting', 'Records the ledger has yet to take up', async () => {
    const [row] = await of.sql<{ waiting: string }[]>`select count(*) as waiting from audit.inbox`
    return Number(row?.waiting ?? 0)
  })
  if (of.authorityFault) {
    gauge(
      'drawbridge_authority_followed',
      '1 while the certificate authority answers, and proxies are told of it',
      () => {
        return Number(of.authorityFault?.() === undefined)
      },
    )
  }
  const readers = async () => await readerStates(of.sql, of.readers?.() ?? [])
  const readerGauge = (name: string, help: string, read: (state: ReaderState) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['forwarder'],
      registers: [registry],
      async collect() {
        const states = await readers().catch(() => undefined)
        if (states === undefined) return
        // Those that a reload took away are gone.
        this.reset()
        for (const state of states) this.set({ forwarder: state.name.replace(/^forward /, '') }, read(state))
      },
    })
  readerGauge('drawbridge_forward_behind_records', 'Records a forwarder has yet to get', ({ behind }) => behind)
  readerGauge('drawbridge_forward_behind_seconds', 'For how long the oldest of them has waited', ({ waiting }) => {
    return waiting / 1000
  })
  readerGauge('drawbridge_forward_success_timestamp_seconds', 'When it last took something; 0: never', state => {
    return (state.succeeded ?? 0) / 1000
  })
  readerGauge('drawbridge_forward_failing', '1 while it does not go on; drawbridge doctor says why', ({ failing }) => {
    return Number(failing !== undefined)
  })
  return registry
}
