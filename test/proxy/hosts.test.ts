import { expect, test } from 'vitest'
import type { UpstreamSettings } from '../../config/settings.ts'
import { connectors, hostIn } from '../../proxy/hosts.ts'

const upstream = (name: string, change: Partial<UpstreamSettings> = {}): [string, UpstreamSettings] => [
  name,
  {
    name,
    url: new URL('https://git.example/'),
    credential: { type: 'basic', username: 'bot', password: 'first-password' },
    hostKeys: [],
    connectTimeout: 1_000,
    idleTimeout: 1_000,
    connections: 1,
    ...change,
  },
]

test('made anew, a host that is the same keeps its connections, and one that is not gets others', () => {
  const before = connectors(new Map([upstream('same'), upstream('moved'), upstream('rekeyed'), upstream('gone')]))
  const after = connectors(
    new Map([
      upstream('same'),
      upstream('moved', { url: new URL('https://elsewhere.example/') }),
      upstream('rekeyed', { credential: { type: 'basic', username: 'bot', password: 'second-password' } }),
      upstream('new'),
    ]),
    undefined,
    before,
  )
  expect([...after.keys()]).toEqual(['same', 'moved', 'rekeyed', 'new'])
  expect(hostIn(after, 'same/a')).toBe(hostIn(before, 'same/a'))
  expect(hostIn(after, 'moved/a')).not.toBe(hostIn(before, 'moved/a'))
  expect(hostIn(after, 'rekeyed/a')).not.toBe(hostIn(before, 'rekeyed/a'))
})

test('a host that is not configured answers as a repository that is not there', async () => {
  const target = {
    path: 'a',
    service: 'upload-pack',
    protocol: 2,
    stateless: true,
    principal: 'p',
    operation: 'o',
  } as const
  const nowhere = hostIn(connectors(new Map([upstream('one')])), 'two/a')(target)
  await expect(nowhere.advertise(AbortSignal.timeout(1_000))).rejects.toMatchObject({ code: 'not-found' })
})
