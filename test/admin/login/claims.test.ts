import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { personOf } from '../../../admin/login/claims.ts'
import type { LoginSettings } from '../../../config/settings.ts'

const NOW = Date.parse('2026-01-31T12:00:00Z')
const SETTINGS: LoginSettings = {
  issuer: new URL('https://id.example.org'),
  clientId: 'drawbridge',
  scopes: ['openid'],
  principal: 'preferred_username',
  groups: 'groups',
  domains: [],
  require: new Map(),
  roles: new Map([['admin', ['platform']]]),
  mfa: { amr: ['mfa'], acr: ['urn:gold'], required: false },
  lasts: 3_600_000,
  token: 900_000,
}
const CLAIMS = { iss: 'https://id.example.org', sub: 'u-1', preferred_username: 'alice' }
const person = (claims: object, settings: Partial<LoginSettings> = {}) =>
  personOf({ ...CLAIMS, ...claims }, { ...SETTINGS, ...settings }, NOW)

describe('a name', () => {
  test('is the claim the settings name, an address in small letters', () => {
    expect(person({})).toMatchObject({ principal: 'alice', subject: 'u-1', roles: ['developer'] })
    expect(person({ preferred_username: 'Alice@Example.ORG' })).toMatchObject({ principal: 'alice@example.org' })
  })

  test.each([
    ['missing', undefined],
    ['empty', ''],
    ['a list', ['alice']],
    ['with a space', 'alice '],
    ['with an escape', 'alice\u001b[2J'],
    ['that reads backwards', 'alice\u202e'],
    ['decomposed', 'ame\u0301lie'],
    ['a pattern', 'a*'],
    ['the gate’s own', 'drawbridge'],
    ['the operator’s', 'Local'],
    ['a CI job’s', 'ci:github:acme/app'],
    ['a service account’s', 'service:deploy'],
    ['half a character', 'a\ud800'],
    ['long', 'a'.repeat(129)],
  ])('%s is refused', (_what, preferred_username) => {
    expect(person({ preferred_username })).toMatchObject({ code: 'principal' })
  })

  // Some providers let anybody write any address into their account.
  test('that is an e-mail address counts only where the provider verified it', () => {
    const settings = { principal: 'email' }
    const email = 'alice@example.org'
    expect(person({ email, email_verified: true }, settings)).toMatchObject({ principal: email })
    for (const email_verified of [undefined, false, 'true', 1]) {
      expect(person({ email, email_verified }, settings)).toMatchObject({ code: 'unverified' })
    }
  })

  test('is of one of the domains, and nothing that only looks like it', () => {
    const settings = { domains: ['example.org'] }
    expect(person({ preferred_username: 'alice@example.org' }, settings)).toMatchObject({
      principal: 'alice@example.org',
    })
    for (const name of [
      'example.org',
      'a@evil.example',
      'a@sub.example.org',
      'a@example.org@evil.example',
      '@example.org',
      'a@example.org.',
    ]) {
      expect(person({ preferred_username: name }, settings)).toMatchObject({ code: 'domain' })
    }
  })

  test('needs every claim that is required, by one of its values', () => {
    const settings = { require: new Map([['hd', ['example.org', 'example.com']]]) }
    expect(person({ hd: 'example.com' }, settings)).toMatchObject({ principal: 'alice' })
    for (const hd of [undefined, '', 'evil.example', ['evil.example'], {}]) {
      expect(person({ hd }, settings)).toMatchObject({ code: 'claims' })
    }
  })
})

describe('groups', () => {
  test('are read by a path, and give roles', () => {
    const settings = { groups: 'realm_access.roles' }
    expect(person({ realm_access: { roles: ['platform', 'x'] } }, settings)).toMatchObject({
      groups: ['platform', 'x'],
      roles: ['developer', 'admin'],
    })
  })

  test('of the gate itself are handed out by no provider', () => {
    expect(person({ groups: ['role:admin', 'ROLE:admin', 'leads\n', 'leads', 'leads', 7, null] })).toMatchObject({
      groups: ['leads'],
      roles: ['developer'],
    })
  })

  test('of any kind make nobody more than the settings say', () => {
    fc.assert(
      fc.property(fc.anything(), groups => {
        const found = person({ groups })
        if ('code' in found) return
        expect(found.groups.every(group => !group.includes(':'))).toBe(true)
        expect(found.roles.includes('admin')).toBe(found.groups.includes('platform'))
      }),
    )
  })
})

describe('a second factor', () => {
  const at = NOW / 1_000 - 600

  test('was shown when amr or acr says so, at auth_time', () => {
    expect(person({ amr: ['pwd', 'mfa'], auth_time: at })).toMatchObject({ mfa: NOW - 600_000 })
    expect(person({ acr: 'urn:gold', auth_time: at })).toMatchObject({ mfa: NOW - 600_000 })
  })

  // The provider's session may be hours old: that one was shown says nothing of when.
  test.each([
    ['without auth_time', { amr: ['mfa'] }],
    ['by a password alone', { amr: ['pwd'], auth_time: at }],
    ['of a time to come', { amr: ['mfa'], auth_time: NOW / 1_000 + 3_600 }],
    ['of no time', { amr: ['mfa'], auth_time: '1' }],
    ['by another class', { acr: 'urn:gold2', auth_time: at }],
  ])('%s was not shown; where one is required nobody signs in', (_what, claims) => {
    expect(person(claims)).not.toHaveProperty('mfa')
    expect(person(claims, { mfa: { ...SETTINGS.mfa, required: true } })).toMatchObject({ code: 'mfa' })
  })
})
