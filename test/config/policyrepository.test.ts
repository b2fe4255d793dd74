import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadSettings } from '../../config/load.ts'
import { ConfigError } from '../../config/problem.ts'
import { temporaryFolder } from '../support/program.ts'

const folder = temporaryFolder('config')

function load(policy: string, more = '') {
  const file = join(folder, 'drawbridge.yaml')
  const rest =
    'redis: redis://127.0.0.1\npostgres: postgres://db@localhost/db\nupstreams: { acme: { url: "file:///srv/" } }\n'
  writeFileSync(file, `${rest}policy: ${policy}\n${more}`)
  return loadSettings(file, {}).policy
}

function complaint(policy: string, more = ''): string {
  try {
    load(policy, more)
    return ''
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
}

test('a policy is a path, or a branch of a repository that is read at the gate’s own address', () => {
  expect(load('rules')).toBe(join(folder, 'rules'))
  const read = { repository: 'acme/access', ref: 'refs/heads/main', path: '', every: 60_000 }
  expect(load('{ repository: acme/access }')).toEqual({ ...read, url: 'http://127.0.0.1:8080' })
  expect(load('{ repository: acme/access }', 'public_http: https://gate.example\n')).toMatchObject({
    url: 'https://gate.example',
  })
  expect(load('{ repository: acme/access, path: a/b.yaml, every: 10s, url: "https://here", ca: ca.pem }')).toEqual({
    ...{ ...read, path: 'a/b.yaml', every: 10_000 },
    ...{ url: 'https://here', caFile: join(folder, 'ca.pem') },
  })
})

test.each([
  ['{ repository: "acme/*" }', 'expected a repository as <upstream>/<path>'],
  ['{ repository: acme/access, ref: main }', 'refs/heads/main'],
  ['{ repository: acme/access, path: /etc }', 'a path in the repository such as policy'],
  ['{ repository: acme/access, every: 1ms }', 'between 1s and 24h'],
  ['{ repositry: acme/access }', 'did you mean repository?'],
  ['17', 'expected the path of a policy file or folder, or { repository'],
])('%s is refused with its place and what is accepted', (policy, message) => {
  expect(complaint(policy)).toMatch(/drawbridge\.yaml:4:\d+: policy/)
  expect(complaint(policy)).toContain(message)
})
