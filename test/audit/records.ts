import type { Log } from '../../audit/emit.ts'
import type { OperationEnd, OperationStart } from '../../audit/record.ts'

/** A log nobody reads. */
export const quiet: Log = { info() {}, warn() {}, error() {} }

const operation = (id: string) =>
  ({ operation: id, principal: 'alice', repository: 'acme/app', service: 'receive-pack', action: 'push' }) as const

/** A push to main, as it starts. */
export function start(id: string, more: Partial<OperationStart> = {}): OperationStart {
  return {
    kind: 'operation.start',
    ...operation(id),
    identity: { kind: 'token', id: 't-1' },
    origin: { transport: 'http', address: '192.0.2.7', connection: 'c-1', agent: 'git/2.39.5' },
    protocol: 2,
    grants: ['g-1'],
    updates: [{ ref: 'refs/heads/main', old: '0'.repeat(40), new: 'a'.repeat(40), action: 'create' }],
    ...more,
  }
}

/** Its end. */
export function end(id: string, more: Partial<OperationEnd> = {}): OperationEnd {
  return {
    kind: 'operation.end',
    ...operation(id),
    result: 'ok',
    bytesIn: 1234,
    bytesOut: 56,
    milliseconds: 78,
    ...more,
  }
}
