import { describe, expect, test, vi } from 'vitest'
import type { Answer } from '../../grant/grant.ts'
import { notice } from '../../proxy/notice.ts'
import { followObserved } from '../../proxy/observing.ts'
import type { RefusalCode } from '../../proxy/refusal.ts'
import { until } from '../support/program.ts'
import { client, gateOf, granted, live, wanted } from './attempt.ts'

const PILOT = JSON.stringify({ repositories: [{ match: ['acme/*'], observe: true }] })
const log = () => ({ warn: vi.fn(), error: vi.fn() })

describe('what is only observed', () => {
  test('is what the policy decides, where the policy says so; everybody is told of it again and again', async () => {
    const said = log()
    const observing = await followObserved({ board: { get: async () => PILOT }, onChange: () => {}, log: said })
    const of = (code: RefusalCode, repository = 'acme/app') => observing.observes(repository, code)
    expect(['no-grant', 'not-here', 'spent', 'ref-refused', 'unproved'].every(code => of(code as RefusalCode))).toBe(
      true,
    )
    for (const code of [
      ...['locked', 'barred', 'unconfirmed', 'redis-unreachable', 'ledger-unreachable', 'draining', 'protocol'],
      ...['upstream', 'cut'],
    ]) {
      expect(of(code as RefusalCode)).toBe(false)
    }
    expect(of('no-grant', 'other/app')).toBe(false)
    expect(said.warn).toHaveBeenCalledWith({ patterns: ['acme/*'] }, expect.stringContaining('mode: observe'))
    observing.stop()
  })

  test('begins and ends when Redis says so; what cannot be read is enforced', async () => {
    let text: string | undefined = PILOT
    const said = log()
    const onChange = vi.fn()
    const observing = await followObserved({ board: { get: async () => text }, onChange, log: said, lookEvery: 5 })
    expect(onChange).not.toHaveBeenCalled()
    text = '{"repositories":"**"}'
    await until(async () => !observing.observes('acme/app', 'no-grant'), 'the end of the pilot')
    expect(onChange).toHaveBeenCalledOnce()
    expect(said.error).toHaveBeenCalledOnce()
    text = PILOT
    await until(async () => observing.observes('acme/app', 'no-grant'), 'another pilot')
    observing.stop()
  })

  test('is not known while Redis does not answer, so it is enforced', async () => {
    const board = { get: () => Promise.reject(new Error('away')) }
    const observing = await followObserved({ board, onChange: () => {}, log: log() })
    expect(observing.observes('acme/app', 'no-grant')).toBe(false)
    observing.stop()
  })
})

describe('an operation that is only observed', () => {
  const observes = (_repository: string, code: RefusalCode) => code !== 'locked'

  test('goes on without a window; its start says why it would not have, and so does what is shown', async () => {
    const { gate, records } = gateOf({ ask: async () => granted(), observes })
    const session = await gate.open(client(), wanted())
    if ('kind' in session) throw new Error(session.sentence)
    expect(records).toMatchObject([
      {
        kind: 'operation.start',
        grants: [],
        observed: { code: 'no-grant', reason: 'no open window for you on acme/app' },
      },
    ])
    expect(notice(session)).toMatch(
      /only observed for now; otherwise: no open window .*\n.*git access request acme\/app/,
    )
    await session.end({ result: 'ok' })
    expect(records.at(-1)).not.toHaveProperty('observed')
  })

  test('whose window ends goes on, and its end says so; a lock still cuts it', async () => {
    let answer: Answer = granted(live())
    const { gate, records } = gateOf({ ask: async () => answer, observes })
    const session = await gate.open(client(), wanted())
    if ('kind' in session) throw new Error(session.sentence)
    expect(records[0]).not.toHaveProperty('observed')
    answer = granted()
    expect(await gate.again(session)).toBeUndefined()
    answer = { kind: 'locked', now: 0, reason: 'key lost' }
    gate.onCut({ principal: 'alice', reason: 'key lost' })
    await until(async () => session.signal.aborted, 'the cut')
    await session.end({ result: 'cut' })
    expect(records.at(-1)).toMatchObject({ kind: 'operation.end', observed: { code: 'no-grant' } })
  })

  test('is cut when the pilot ends', async () => {
    let pilot = true
    const { gate } = gateOf({ ask: async () => granted(), observes: () => pilot })
    const session = await gate.open(client(), wanted())
    if ('kind' in session) throw new Error(session.sentence)
    pilot = false
    gate.recheck()
    await until(async () => session.signal.aborted, 'the cut')
    expect(session.cutBy).toMatchObject({ code: 'cut' })
  })

  test('is none where the credential was made for one window only', async () => {
    const { gate } = gateOf({ ask: async () => granted(), observes })
    const bound = client()
    const refused = await gate.open({ ...bound, caller: { ...bound.caller, request: 'r-1' } }, wanted())
    expect(refused).toMatchObject({ kind: 'refusal', code: 'no-grant' })
  })
})
