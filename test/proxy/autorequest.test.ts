import { PassThrough } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Answer } from '../../grant/grant.ts'
import { autoRequests } from '../../proxy/autorequest.ts'
import { ControlError, type ControlPlane } from '../../proxy/control.ts'
import { refusal } from '../../proxy/refusal.ts'
import type { Request } from '../../proxy/words/request.ts'
import { client, gateOf, granted, live, wanted } from './attempt.ts'

// A refused operation asks for its window by itself and waits, told by a control plane that answers as the test says.

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const REQUEST: Request = {
  id: 'r-1',
  state: 'requested',
  principal: 'alice',
  requester: 'alice',
  targets: [{ repository: 'acme/app', actions: ['fetch'], refs: [] }],
  for: '1h',
  reason: '',
  digest: '',
  waiting_for: 'one of leads',
  lapses_at: '2026-01-01T00:00:00Z',
  may_decide: false,
  votes: [],
  grants: [],
}
const APPROVED: Request = {
  ...REQUEST,
  state: 'approved',
  grants: [{ id: 'g-1', state: 'live', expires_at: '2026-01-01T01:00:00Z' }],
}
const DENIED: Request = { ...REQUEST, state: 'denied', votes: [{ by: 'mona', says: 'deny', comment: 'not now' }] }

/** A control plane that files, and decides when it is told to. */
function plane(options: { readonly wait?: number; readonly filed?: Request } = {}) {
  const { promise, resolve } = Promise.withResolvers<Request>()
  const asked: string[] = []
  const control: Pick<ControlPlane, 'call'> = {
    call: async <T>({ method, path, gone }: Parameters<ControlPlane['call']>[0]) => {
      asked.push(`${method} ${path}`)
      if (method === 'POST') return { request: options.filed ?? REQUEST, wait_seconds: options.wait ?? 300 } as T
      const left = new Promise<never>((_, reject) =>
        gone.addEventListener('abort', () => reject(new ControlError(3, 'broken off'))),
      )
      return (await Promise.race([promise, left])) as T
    },
  }
  return { control, asked, decide: resolve }
}

const no = () => refusal('op-1', 'no-grant', 'acme/app', 'upload-pack')
const never = new AbortController().signal
const overSsh = () => {
  const stderr = new PassThrough()
  return { ...client({ part: 'conversation', stderr }), said: () => String(stderr.read() ?? '') }
}

describe('an operation without a window', () => {
  test('waits, says who is asked and how long it waits, and goes on when it is approved', async () => {
    const { control, decide } = plane()
    const person = overSsh()
    const after = autoRequests(control)(person, no(), never)
    await vi.advanceTimersByTimeAsync(2_000)
    const said = person.said()
    expect(said).toContain('drawbridge: r-1 asks for this: one of leads to approve\n')
    expect(said).toContain('\rdrawbridge: waiting, 00:05:00 left; Ctrl-C leaves it standing')
    expect(said).toContain('00:04:58 left')
    expect(said).not.toContain('\u001b')
    decide(APPROVED)
    expect(await after).toBe('decided')
  })

  test('is refused with the words of whoever denied it', async () => {
    const { control, decide } = plane()
    const after = autoRequests(control)(overSsh(), no(), never)
    decide(DENIED)
    expect(await after).toMatchObject({
      code: 'no-grant',
      sentence: 'no open window for you on acme/app: r-1 is denied by mona: not now',
    })
  })

  test('is refused with the request’s id when its time is over, and the request stands', async () => {
    const { control, asked } = plane({ wait: 20 })
    const after = autoRequests(control)(client(), no(), never)
    await vi.advanceTimersByTimeAsync(20_000)
    expect(await after).toMatchObject({
      sentence: 'no open window for you on acme/app',
      hint: 'asked for: r-1 waits for one of leads, until 2026-01-01T00:00:00Z; then try again, or: git access wait r-1',
    })
    expect(asked).toEqual(['POST /requests/auto', 'GET /requests/r-1?wait=30s'])
  })

  test('over HTTP waits less than what stands in front of a gate does', async () => {
    const { control } = plane({ wait: 86_400 })
    let refused: unknown
    void autoRequests(control)(client(), no(), never).then(answer => {
      refused = answer
    })
    await vi.advanceTimersByTimeAsync(44_000)
    expect(refused).toBeUndefined()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(refused).toMatchObject({ code: 'no-grant' })
  })

  test.each([
    ['the client is gone', (leave: () => void) => leave],
    ['the gate is being stopped', (_: () => void, stop: () => void) => stop],
  ])('waits no longer when %s', async (_, which) => {
    const { control } = plane()
    const person = client()
    const stopping = new AbortController()
    const after = autoRequests(control)(person, no(), stopping.signal)
    await vi.advanceTimersByTimeAsync(1_000)
    which(person.leave, () => stopping.abort())()
    expect(await after).toMatchObject({ code: 'no-grant' })
  })

  test('is let through at once where the policy approves by itself', async () => {
    const { control, asked } = plane({ filed: { ...APPROVED, enacted: true } })
    expect(await autoRequests(control)(client(), no(), never)).toBe('decided')
    expect(asked).toEqual(['POST /requests/auto'])
  })
})

test('a credential for one request asks for no other', async () => {
  const { control, asked } = plane()
  const job = client()
  const bound = { ...job, caller: { ...job.caller, request: 'r-9' } }
  expect(await autoRequests(control)(bound, no(), never)).toMatchObject({ code: 'no-grant' })
  expect(asked).toEqual([])
})

describe('bounds', () => {
  test('a person waits four times at once; the fifth is told the id and does not wait', async () => {
    const { control, decide } = plane()
    const ask = autoRequests(control)
    const waiting = Array.from({ length: 4 }, () => ask(client(), no(), never))
    await vi.advanceTimersByTimeAsync(10)
    expect(await ask(client(), no(), never)).toMatchObject({ hint: expect.stringContaining('r-1 waits for') })
    decide(APPROVED)
    expect(await Promise.all(waiting)).toEqual(Array(4).fill('decided'))
  })

  test('a program that is refused again and again stops asking the control plane', async () => {
    const { control, asked } = plane({ wait: 0 })
    const ask = autoRequests(control)
    for (let i = 0; i < 30; i++) await ask(client(), no(), never)
    expect(asked).toHaveLength(12)
    await vi.advanceTimersByTimeAsync(60_000)
    await ask(client(), no(), never)
    expect(asked).toHaveLength(13)
  })

  test('a control plane that hangs delays one refusal by less than two seconds, and the next not at all', async () => {
    // No clock of a test's own moves the real one.
    vi.spyOn(AbortSignal, 'timeout').mockImplementationOnce(milliseconds => {
      const late = new AbortController()
      setTimeout(() => late.abort(), milliseconds)
      return late.signal
    })
    const asked: string[] = []
    const control: Pick<ControlPlane, 'call'> = {
      call: ({ path, gone }) => {
        asked.push(path)
        return new Promise((_, reject) => gone.addEventListener('abort', () => reject(new ControlError(3, 'late'))))
      },
    }
    const ask = autoRequests(control)
    const after = ask(client(), no(), never)
    await vi.advanceTimersByTimeAsync(1_600)
    expect(await after).toEqual(no())
    expect(await ask(client(), no(), never)).toEqual(no())
    expect(asked).toHaveLength(1)
  })
})

describe('the gate', () => {
  test('asks nothing by itself for any other refusal, nor where an operation has begun to be answered', async () => {
    const asked: string[] = []
    const afterRefusal = async () => {
      asked.push('asked')
      return 'decided' as const
    }
    const others: Answer[] = [
      { kind: 'locked', now: 0, reason: 'lost laptop' },
      { kind: 'barred', now: 0, credential: 'token:t-1' },
      { kind: 'spent', now: 0, grants: [] },
      { kind: 'unconfirmed', now: 0 },
      granted(live({ bounds: { networks: [['10.0.0.0/8']] } })),
    ]
    for (const answer of others) {
      const { gate } = gateOf({ ask: async () => answer, afterRefusal })
      expect(await gate.open(client(), wanted({ mayWait: true }))).toMatchObject({ kind: 'refusal' })
    }
    const { gate } = gateOf({ ask: async () => granted(), afterRefusal })
    expect(await gate.open(client(), wanted())).toMatchObject({ code: 'no-grant' })
    expect(asked).toEqual([])
  })

  test('lets nobody through by what it was told: it asks again', async () => {
    const answers = [granted(), granted()]
    const { gate, records } = gateOf({
      ask: async () => answers.shift() ?? granted(live()),
      afterRefusal: async () => 'decided',
    })
    expect(await gate.open(client(), wanted({ mayWait: true }))).toMatchObject({ code: 'no-grant' })
    expect(records).toMatchObject([{ kind: 'operation.refused', code: 'no-grant' }])
    answers.push(granted())
    expect(await gate.open(client(), wanted({ mayWait: true }))).toMatchObject({ operation: expect.any(String) })
    expect(records).toMatchObject([{ code: 'no-grant' }, { kind: 'operation.start' }])
  })

  test('that is being stopped lets go of those who wait', async () => {
    vi.useRealTimers()
    const { gate } = gateOf({
      ask: async () => granted(),
      afterRefusal: (_, refused, stopping) =>
        new Promise(resolve => stopping.addEventListener('abort', () => resolve(refused))),
    })
    const whose = client()
    const opening = gate.attend(whose, () => gate.open(whose, wanted({ mayWait: true })))
    await turn()
    await gate.close(60_000)
    expect(await opening).toMatchObject({ code: 'no-grant' })
  })
})
