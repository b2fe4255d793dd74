import { afterAll, beforeAll, expect, test } from 'vitest'
import { issueGrant } from '../../admin/register/grants.ts'
import { end, start } from '../audit/records.ts'
import { until } from '../support/program.ts'
import { type Engines, startEngines } from './control.ts'

let engines: Engines

beforeAll(async () => {
  engines = await startEngines()
})
afterAll(() => engines?.stop())

test('a window for so many bytes that Redis has lost begins again with what the ledger says of it', async () => {
  const enact = engines.enact()
  const grant = await engines.grant({ bounds: { bytes: 1_000 } })
  await issueGrant(engines.act, grant, 'root')
  expect(await engines.records('grant.issued')).toMatchObject([{ grant: grant.id, bytes: 1_000 }])
  await engines.act(async change => {
    for (const operation of ['op-1', 'op-2']) {
      change.record(start(operation, { grants: [grant.id] }))
      change.record(end(operation, { bytesIn: 10, bytesOut: 400 }))
    }
    change.record(start('op-3', { grants: ['another'] }))
    change.record(end('op-3', { bytesIn: 0, bytesOut: 5_000 }))
  })
  await engines.redis.flushall()
  await enact.settle(5_000)
  await until(() => engines.store.confirmed().catch(() => false), 'the fence to open')
  const asked = { principal: 'alice', credentials: [], repository: 'acme/api', actions: ['fetch'] } as const
  expect(await engines.store.ask(asked)).toMatchObject({ kind: 'live', grants: [{ carried: 820 }] })

  await engines.store.ask({ ...asked, carried: { bytes: 180, grants: [grant.id] } })
  await until(async () => (await engines.records('grant.ended')).length > 0, 'its end')
  expect(await engines.records('grant.ended')).toMatchObject([{ how: 'used', reason: 'its bytes are used up' }])
})
