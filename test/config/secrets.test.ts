import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadSettings } from '../../config/load.ts'
import { secretsOf } from '../../config/secrets.ts'
import type { UpstreamSettings } from '../../config/settings.ts'
import { temporaryFolder } from '../support/program.ts'
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

test('a secret of any section of the file is known: where it goes into a record by mistake, it is found', () => {
  const file = join(temporaryFolder('secrets'), 'drawbridge.yaml')
  const webhook = (letter: string) => `whsec_${letter.repeat(32)}`
  writeFileSync(
    file,
    `
redis: redis://127.0.0.1/0
postgres: postgres://drawbridge@127.0.0.1/drawbridge
upstreams: {}
login: { issuer: https://id.example, client_id: gate, client_secret: planted-login }
ledger:
  forward:
    siem: { type: syslog, address: siem.example:6514, key: "-----BEGIN PRIVATE KEY-----\\nplanted-syslog\\n-----END PRIVATE KEY-----" }
    web: { type: webhook, url: https://hooks.example/, secret: ${webhook('f')} }
    store: { type: s3, endpoint: https://s3.example/, bucket: records, access_key: AKIA, secret_key: planted-s3 }
notify:
  channels:
    web: { type: webhook, url: https://hooks.example/, secret: ${webhook('n')} }
    mail: { type: email, smtp: smtps://mail.example:465, username: gate, password: planted-mail, from: gate@acme.example }
    chat: { type: slack, token: xoxb-planted-slack, channel: C012ABC, signing_secret: ${'a1'.repeat(16)}, app_token: xapp-planted-slack }
    team: { type: teams, url: "https://flow.example/workflows/1?api-version=1&sig=planted-teams" }
hooks:
  siem: { type: revoke, secret: ${webhook('h')} }
`,
  )
  const secrets = secretsOf(loadSettings(file, {}))
  const planted = [
    'planted-login',
    'planted-syslog',
    'planted-s3',
    'planted-mail',
    'xoxb-planted-slack',
    'xapp-planted-slack',
    'planted-teams',
    'a1'.repeat(16),
  ]
  expect(secrets).toEqual(expect.arrayContaining([...planted, ...['f', 'n', 'h'].map(webhook)]))
})
