import { expect } from 'vitest'
import type { Record } from '../../audit/record.ts'
import { refsOf } from './git.ts'
import { until } from './program.ts'
import type { Stand } from './stand.ts'
import { operationIn } from './wire.ts'

/** The one record of the operation a person was told of; fails unless there is exactly one. */
export async function recordTold(stand: Stand, text: string): Promise<Record> {
  const operation = operationIn(text)
  // Nobody waits for the record of a refusal that opened nothing.
  const found = await until(async () => {
    const records = await recordsOf(stand, operation)
    return records.length > 0 && records
  }, `a record of ${operation}`)
  expect(found, `records of ${operation}`).toHaveLength(1)
  return found[0]!
}

/** The records of an operation, in order. */
export async function recordsOf(stand: Stand, operation: string): Promise<Record[]> {
  return (await stand.records()).filter(record => 'operation' in record && record.operation === operation)
}

/** Notes what the hosts have seen; the check fails when they have seen more, or a ref has moved. */
export async function unseen(stand: Stand, bare: string): Promise<() => Promise<void>> {
  const look = async () => ({
    requests: stand.nginx.requests().length,
    commands: stand.sshd.log().split('Starting session').length,
    refs: await refsOf(bare),
  })
  const before = await look()
  return async () => expect(await look()).toEqual(before)
}
