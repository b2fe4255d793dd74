import { expect, test } from 'vitest'
import { secretsOf } from '../../config/secrets.ts'
import type { UpstreamSettings } from '../../config/settings.ts'
import { plainSettings } from '../support/settings.ts'

const common = {
  connectTimeout: 1,
  idleTimeout: 1,
  connections: 1,
  hostKeys: [],
  url: new URL('https://host.example/'),
}
const upstream = (name: string, credential: UpstreamSettings['credential']): [string, UpstreamSettings] => [
  name,
  { ...common, name, credential },
]

const settings = plainSettings({
  redis: 'redis://:redis%2Fsecret@127.0.0.1/0',
  postgres: 'postgres://drawbridge:pg-secret@127.0.0.1/drawbridge',
  state: '/nowhere',
  upstreams: new Map([
    upstream('a', { type: 'basic', username: 'bot', password: 'basic-secret' }),
    upstream('b', { type: 'bearer', token: 'bearer-secret' }),
    upstream('c', {
      type: 'ssh-key',
      username: 'git',
      privateKey: '-----BEGIN X-----\nline-one\nline-two\n-----END X-----\n',
    }),
  ]),
  ca: { configured: false, directory: '/ca', socket: '/ca.sock', passphrase: 'ca-secret' },
})

test('every secret in the settings is known, in each spelling it is met in', () => {
  expect(secretsOf(settings).sort()).toEqual(
    [
      'basic-secret',
      Buffer.from('bot:basic-secret').toString('base64'),
      'bearer-secret',
      'ca-secret',
      'line-one',
      'line-two',
      'pg-secret',
      'redis%2Fsecret',
      'redis/secret',
    ].sort(),
  )
})

test('what only looks like an address with a password is none', () => {
  const plain = { ...settings, redis: 'redis://127.0.0.1/0', postgres: 'postgres://drawbridge@127.0.0.1/drawbridge' }
  expect(secretsOf(plain).filter(secret => /redis|pg|drawbridge/.test(secret))).toEqual([])
})
