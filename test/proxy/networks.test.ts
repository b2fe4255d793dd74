import { pino } from 'pino'
import { afterEach, expect, test } from 'vitest'
import { followNetworks, type LockedNetworks } from '../../proxy/networks.ts'

const log = pino({ level: 'silent' })
let following: LockedNetworks | undefined
afterEach(() => following?.stop())

test('an address of a locked network is told why, in either way of writing it, and no other', async () => {
  const store = {
    lockedNetworks: async () => [
      { network: '203.0.113.0/24', reason: 'an infected office' },
      { network: '2001:db8::7', reason: 'a stolen laptop' },
    ],
  }
  following = await followNetworks({ store, onChange: () => {}, log })
  const office = 'nothing is let in from 203.0.113.0/24: an infected office'
  expect(following.why('203.0.113.9')).toBe(office)
  expect(following.why('::ffff:203.0.113.9')).toBe(office)
  expect(following.why('2001:db8::7')).toContain('a stolen laptop')
  for (const address of ['203.0.114.9', '2001:db8::8', 'unix', '']) expect(following.why(address)).toBeUndefined()
})

test('what comes later is told, once, and what Redis said last holds while it says nothing', async () => {
  let answer: () => Promise<{ network: string; reason: string }[]> = async () => []
  let changes = 0
  following = await followNetworks({ store: { lockedNetworks: () => answer() }, onChange: () => void changes++, log })
  answer = async () => [{ network: '198.51.100.7', reason: 'malware' }]
  await following.look()
  await following.look()
  expect(following.why('198.51.100.7')).toContain('malware')
  answer = () => Promise.reject(new Error('redis is away'))
  await following.look()
  expect(following.why('198.51.100.7')).toContain('malware')
  answer = async () => []
  await following.look()
  expect([following.why('198.51.100.7'), changes]).toEqual([undefined, 2])
})

test('a name that is no network locks out nobody, and keeps no other from it', async () => {
  const store = {
    lockedNetworks: async () => [
      { network: 'everywhere', reason: 'x' },
      { network: '10.0.0.0/8', reason: 'y' },
    ],
  }
  following = await followNetworks({ store, onChange: () => {}, log })
  expect(following.why('10.1.2.3')).toContain('y')
})
