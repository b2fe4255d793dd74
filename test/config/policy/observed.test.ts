import { describe, expect, test } from 'vitest'
import { observedBy } from '../../../config/policy/observed.ts'
import { describeObserved, isObserved, readObserved } from '../../../grant/observe.ts'
import { policy } from './support.ts'

const observes = (body: string, repository: string) => isObserved(observedBy(policy(body)), repository)

describe('what a policy only observes', () => {
  test('is nothing unless it says so', () => {
    expect(observedBy(policy('requests: [{ trigger: push, approvers: leads }]'))).toEqual({ repositories: [] })
  })

  test('is said of all, with exceptions, or of some; the first entry that matches counts', () => {
    const all = 'mode: observe\nrepositories: [{ match: acme/payments, mode: enforce }]'
    expect(observes(all, 'acme/payments')).toBe(false)
    expect(observes(all, 'acme/other')).toBe(true)
    const some = 'repositories: [{ match: acme/pilot-*, mode: observe }, { match: acme/pilot-1, mode: enforce }]'
    expect(observes(some, 'acme/pilot-1')).toBe(true)
    expect(observes(some, 'acme/other')).toBe(false)
    // An entry that only names a class is an entry too: the whole policy's mode holds for it.
    const classed =
      'classes: { critical: {} }\nrepositories: [{ match: acme/a, class: critical }, { match: acme/*, mode: observe }]'
    expect(observes(classed, 'acme/a')).toBe(false)
    expect(observes(classed, 'acme/b')).toBe(true)
  })

  test('is never what a rule says is enforced, whatever else that rule speaks of', () => {
    const body =
      'mode: observe\nrequests: [{ trigger: push, repositories: acme/vault, mode: enforce, approvers: leads }]'
    expect(observes(body, 'acme/vault')).toBe(false)
    expect(observes(body, 'acme/app')).toBe(true)
  })

  test('goes to the proxies as text, and what is not understood there is an error, never a yes', () => {
    const observed = observedBy(policy('repositories: [{ match: [acme/a, acme/b], mode: observe }]'))
    expect(readObserved(JSON.stringify(observed))).toEqual(observed)
    expect(describeObserved(observed)).toEqual(['acme/a', 'acme/b'])
    expect(readObserved(undefined)).toEqual({ repositories: [] })
    for (const text of ['', 'true', '{"repositories":[{"match":"**","observe":true}]}', 'x'.repeat(5 << 20)]) {
      expect(() => readObserved(text)).toThrow()
    }
  })
})
