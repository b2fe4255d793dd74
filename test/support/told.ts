import { expect } from 'vitest'
import type { Record } from '../../audit/record.ts'
import { refsOf } from './git.ts'
import type { Stand } from './stand.ts'
import { operationIn } from './wire.ts'

/** The one record of the operation a person was told of; fails unless there is exactly one. */
export async function recordTold(stand: Stand, text: string): Promise<Record> {
  const operation = operationIn(text)
  const found = await recordsOf(stand, operation)
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
