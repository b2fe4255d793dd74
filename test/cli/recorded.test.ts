import { describe, expect, test } from 'vitest'
import type { OperationRefused, OperationStart, Record } from '../../audit/record.ts'
import { operationsOf, type RecordedEntry } from '../../cli/recorded.ts'

const AT = '2026-11-18T10:00:00.000Z'
const common = {
  operation: 'op-1',
  principal: 'dana',
  repository: 'acme/api',
  identity: { kind: 'token', id: 't-1' },
  origin: { transport: 'http', address: '10.0.0.1', connection: 'c-1', agent: 'git/2.39' },
} as const
const start: OperationStart = {
  ...common,
  kind: 'operation.start',
  service: 'receive-pack',
  action: 'push',
  protocol: 0,
  grants: ['g-1'],
  updates: [
    { ref: 'refs/heads/main', old: 'a', new: 'b', action: 'update-or-force' },
    { ref: 'refs/tags/v1', old: '0', new: 'b', action: 'tag' },
  ],
}
const refused: OperationRefused = {
  ...common,
  kind: 'operation.refused',
  service: 'receive-pack',
  action: 'list',
  code: 'no-grant',
  reason: 'no open window',
}
const signin = (groups: string[], mfa?: string): Record => ({
  ...{ kind: 'signin.made', by: 'dana', signin: 's-1', principal: 'dana', groups, roles: ['developer'] },
  ...(mfa !== undefined && { mfa }),
})
const ledger = (...records: readonly Record[]) =>
  records.map((record, seq) => ({ seq, at: AT, record }) as RecordedEntry)

describe('the operations of the ledger, for a policy', () => {
  test('a push is what it did to each ref', () => {
    expect(operationsOf(ledger(start))).toEqual(
      [
        ['update', 'refs/heads/main'],
        ['tag', 'refs/tags/v1'],
      ].map(([action, ref]) => ({
        ...{ id: 'op-1', at: Date.parse(AT), principal: 'dana', kind: 'person', groups: [], address: '10.0.0.1' },
        ...{ action, repository: 'acme/api', refs: [ref], result: 'allowed' },
      })),
    )
  })

  test('a listing counts only where it was refused, for what it was to begin', () => {
    expect(operationsOf(ledger({ ...start, action: 'list' }))).toEqual([])
    const services = ['receive-pack', 'upload-pack', 'upload-archive'] as const
    const wanted = operationsOf(ledger(...services.map(service => ({ ...refused, service }))))
    expect(wanted.map(({ action, result }) => [action, result])).toEqual([
      ['update', 'refused'],
      ['fetch', 'refused'],
      ['archive', 'refused'],
    ])
  })

  test('what was refused for other reasons than a window says nothing of the policy', () => {
    const others = ['locked', 'barred', 'redis-unreachable', 'protocol', 'draining']
    expect(operationsOf(ledger(...others.map(code => ({ ...refused, code }))))).toEqual([])
  })

  test('groups and second factor are those of the last sign-in before it, and of nobody else’s', () => {
    const [before, first, second] = operationsOf(
      ledger(
        refused,
        signin(['payments'], AT),
        refused,
        signin([]),
        { ...refused, principal: 'ci:github:acme/x' },
        refused,
      ),
    ).filter(({ principal }) => principal === 'dana')
    expect(before).toMatchObject({ groups: [] })
    expect(first).toMatchObject({ groups: ['payments', 'role:developer'], mfa: Date.parse(AT) })
    expect(second).toMatchObject({ groups: ['role:developer'] })
    expect(second).not.toHaveProperty('mfa')
    expect(operationsOf(ledger({ ...refused, principal: 'ci:github:acme/x' }))).toMatchObject([{ kind: 'ci' }])
  })
})
