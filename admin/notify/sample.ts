import type { Payload } from './payload.ts'

/** What a channel shows of a request, for `drawbridge notify test`; nothing of it exists. */
export function sampleNotice(now: number): Payload {
  const iso = (at: number) => new Date(at).toISOString()
  return {
    type: 'request.made',
    timestamp: iso(now),
    data: {
      by: 'somebody',
      principal: 'somebody',
      reason: 'a test of this channel; there is nothing to decide',
      request: {
        id: 'r-00000000000000000000',
        state: 'requested',
        principal: 'somebody',
        requester: 'somebody',
        targets: [{ repository: 'example/test', actions: ['create', 'update'], refs: ['refs/heads/main'] }],
        for: 7_200_000,
        reason: 'a test of this channel; there is nothing to decide',
        ticket: 'TEST-1',
        break_glass: false,
        digest: '',
        policy: 'none',
        rules: ['test'],
        approvers: 'one of leads',
        waiting_for: 'one of leads',
        votes: [],
        last: { at: iso(now - 86_400_000), action: 'push', repository: 'example/test', result: 'ok' },
        lapses_at: iso(now + 3_600_000),
        windows: [],
      },
    },
  }
}
