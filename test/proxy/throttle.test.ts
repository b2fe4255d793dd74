import { expect, test } from 'vitest'
import { createThrottle } from '../../proxy/throttle.ts'

test('the first failures cost nothing, the next ever more, and then nobody listens for a while', () => {
  let now = 0
  const throttle = createThrottle({ now: () => now })
  const delays = Array.from({ length: 20 }, () => throttle.failed('192.0.2.1'))
  expect(delays.slice(0, 10)).toEqual([0, 0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000])
  expect(throttle.wait('192.0.2.1', 'guess')).toBe(30)
  expect(throttle.wait('192.0.2.2', 'guess')).toBe(0)
  now = 29_500
  expect(throttle.wait('192.0.2.1', 'guess')).toBe(1)
  now = 30_000
  expect(throttle.wait('192.0.2.1', 'guess')).toBe(0)
  throttle.failed('192.0.2.1')
  expect(throttle.wait('192.0.2.1', 'guess')).toBe(30)
  now = 30_000 * 30
  expect(throttle.failed('192.0.2.1')).toBe(0)
})

test('a credential that was good is still looked at when its whole office is being slowed down', () => {
  const throttle = createThrottle({ now: () => 0 })
  throttle.succeeded('good')
  for (let i = 0; i < 30; i++) throttle.failed('192.0.2.1')
  expect(throttle.wait('192.0.2.1', 'good')).toBe(0)
  expect(throttle.wait('192.0.2.1', 'bad')).toBe(30)
})

test('whoever has a /64 of IPv6 is one source', () => {
  const throttle = createThrottle({ now: () => 0 })
  for (let i = 0; i < 20; i++) throttle.failed(`2001:db8::${i.toString(16)}`)
  expect(throttle.wait('2001:db8::ffff:1', 'x')).toBe(30)
  expect(throttle.wait('2001:db8:0:1::1', 'x')).toBe(0)
})

test('an attacker with many addresses fills a table of bounded size', () => {
  const throttle = createThrottle({ now: () => 0, sources: 3 })
  for (let i = 0; i < 20; i++) throttle.failed('192.0.2.1')
  for (const last of [2, 3, 4]) throttle.failed(`192.0.2.${last}`)
  expect(throttle.wait('192.0.2.1', 'x')).toBe(0)
})
