import type { ControlRecord, Record } from '../../audit/record.ts'
import { end, start } from './records.ts'

const operation = {
  operation: 'op-9',
  principal: 'alice',
  repository: 'acme/app',
  service: 'receive-pack',
  action: 'push',
} as const
const origin = { transport: 'ssh', address: '2001:db8::7', connection: 'c-9', agent: 'OpenSSH_9.2' } as const
const expires = '2026-01-31T14:00:00.000Z'
const request = {
  by: 'bob',
  request: 'r-1',
  principal: 'alice',
  repository: 'acme/app',
  actions: ['update'],
  refs: ['main'],
  reason: 'PAY-231',
}
const update = { ref: 'refs/heads/main', old: 'b'.repeat(40), new: 'a'.repeat(40), action: 'update' } as const
const of = <K extends ControlRecord['kind']>(kinds: readonly K[], members: object) =>
  kinds.map(kind => ({ kind, ...members }) as unknown as Record)

/** A record of every kind, with every member it can have. */
export const ONE_OF_EACH: readonly Record[] = [
  start('op-1', {
    identity: { kind: 'certificate', serial: '7', keyId: 'alice@corp', fingerprint: 'SHA256:x', authority: 'SHA256:y' },
    fetch: { wants: 1, haves: 0, depth: '1', filter: 'blob:none', kind: 'clone' },
    pushOptions: ['ci.skip'],
    observed: { code: 'no-grant', reason: 'no open window' },
  }),
  end('op-1', {
    reason: 'x',
    objects: 3,
    observed: { code: 'spent', reason: 'used up' },
    updates: [{ ...update, result: 'rejected', reason: 'hook declined' }],
  }),
  {
    kind: 'operation.refused',
    ...operation,
    identity: { kind: 'key', fingerprint: 'SHA256:z' },
    origin,
    code: 'no-grant',
    reason: 'no grant',
    updates: [update],
  },
  {
    kind: 'signin.made',
    by: 'alice',
    signin: 's-1',
    principal: 'alice',
    address: '192.0.2.7',
    groups: ['payments'],
    roles: ['developer'],
    mfa: '2026-01-31T12:00:00.000Z',
    expires,
  },
  { kind: 'signin.ended', by: 'alice', signin: 's-1', principal: 'alice', reason: 'signed out' },
  { kind: 'signin.refused', origin, code: 'unknown-key', reason: 'not registered', claimed: 'root' },
  {
    kind: 'grant.issued',
    by: 'bob',
    grant: 'g-1',
    principal: 'alice',
    repository: 'acme/*',
    actions: ['update'],
    refs: ['release/*'],
    starts: '2026-01-31T12:00:00.000Z',
    expires,
    idle: 600_000,
    uses: 3,
    bytes: 2_000_000_000,
    reason: 'PAY-231',
    request: 'r-1',
  },
  { kind: 'grant.extended', by: 'bob', grant: 'g-1', principal: 'alice', expires, reason: 'more' },
  { kind: 'grant.ended', by: 'drawbridge', grant: 'g-1', principal: 'alice', how: 'expired', reason: 'time is up' },
  { kind: 'session.cut', by: 'bob', operation: 'op-1', principal: 'alice', reason: 'incident' },
  ...of(['principal.locked', 'principal.unlocked'], { by: 'bob', principal: 'alice', reason: 'incident' }),
  ...of(['token.created', 'token.revoked'], {
    by: 'bob',
    token: 't-1',
    principal: 'alice',
    roles: ['developer'],
    expires,
  }),
  ...of(['service.created', 'service.rotated', 'service.assigned', 'service.ended'], {
    by: 'bob',
    principal: 'service:deployer',
    owner: 'alice',
    token: 't-1',
    until: expires,
    reason: 'gone',
  }),
  ...of(['key.registered', 'key.revoked'], { by: 'bob', fingerprint: 'SHA256:x', principal: 'alice', expires }),
  ...of(['certificate.issued', 'certificate.refused', 'certificate.revoked'], {
    by: 'bob',
    serial: '7',
    keyId: 'alice@corp',
    principals: ['alice'],
    expires,
    reason: 'x',
  }),
  ...of(['authority.rotated', 'authority.distrusted'], { by: 'bob', ring: 'user', fingerprint: 'SHA256:x' }),
  ...of(['config.loaded', 'config.refused', 'policy.loaded', 'policy.refused'], {
    by: 'drawbridge',
    version: 'v1',
    reason: 'x',
  }),
  ...of(['role.started', 'role.stopped'], { by: 'drawbridge', role: 'proxy', reason: 'x' }),
  ...of(
    [
      'request.made',
      'request.approved',
      'request.denied',
      'request.withdrawn',
      'request.lapsed',
      'request.escalated',
      'request.vote',
    ],
    {
      ...request,
      rule: 'payments',
    },
  ),
  ...of(['request.comment'], {
    ...{ by: 'bob', request: 'r-1', principal: 'alice', repository: 'acme/app', reason: 'why?' },
    ...{ via: 'slack', channel: 'approvals' },
  }),
  ...(['trigger.fired', 'trigger.refused', 'trigger.ended'] as const).map((kind): ControlRecord => {
    const told = {
      by: 'hook:github',
      event: 'merge',
      run: 'merge/1',
      repository: 'a/b',
      commit: 'c4295bd74fb0f4fda03689c3df3f2803b658fd85',
      delivery: 'd',
      actor: 'mona 1',
    }
    return { kind, ...told, principal: 'mona', request: 'r-1', rule: 'merged', reason: 'x' }
  }),
  {
    kind: 'channel.refused',
    by: 'drawbridge',
    channel: 'mail',
    code: 'used',
    reason: 'x',
    address: '::1',
    claimed: 'y',
  },
  { kind: 'ledger.gap', by: 'ledger', proxy: 'p', boot: 'b', from: 3, to: 4 },
  {
    kind: 'anomaly.found',
    by: 'drawbridge',
    anomaly: 'spread',
    principal: 'alice',
    repository: 'acme/app',
    operation: 'op-1',
    grant: 'g-1',
    reason: 'many',
  },
  {
    kind: 'bypass.suspected',
    by: 'drawbridge',
    repository: 'acme/app',
    ref: 'refs/heads/main',
    left: 'a'.repeat(40),
    found: 'b'.repeat(40),
    operation: 'op-1',
    principal: 'alice',
    reason: 'moved',
  },
  { kind: 'ledger.retained', by: 'drawbridge', from: 1, to: 9, file: 'ledger.jsonl', sha256: '0'.repeat(64) },
  { kind: 'ledger.duplicate', operation: 'op-1' },
]
