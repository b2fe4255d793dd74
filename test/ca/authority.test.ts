import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Authority,
  type AuthorityKey,
  distrust,
  initAuthority,
  knownHostsLines,
  readAuthority,
  rotate,
  trustedKeys,
  trustedUserCaKeys,
  writeAuthority,
} from '../../ca/authority.ts'
import { fingerprint, parsePublicKeyLine, publicKeyBlob, publicKeyLine } from '../../ca/key.ts'
import { NOON, temporaryDirectory } from './keys.ts'

const HOUR = 3600

function freshKey(): AuthorityKey {
  const publicKey = publicKeyLine(publicKeyBlob(generateKeyPairSync('ed25519').publicKey))
  return { publicKey, signer: { kind: 'file', file: 'key.json' }, created: new Date(NOON).toISOString() }
}

function freshAuthority(): Authority {
  return initAuthority({
    user: { current: freshKey(), next: freshKey() },
    host: { current: freshKey(), next: freshKey() },
  })
}

const print = (key: AuthorityKey) => fingerprint(parsePublicKeyLine(key.publicKey).blob)

test('next, current and retired keys are trusted side by side, and a retired one until its last certificate has run out', () => {
  const first = freshAuthority()
  const next = freshKey()
  const turned = rotate(first, 'user', next, NOON, HOUR)
  expect(turned.user.current).toEqual(first.user.next)
  expect(turned.user.next).toEqual(next)
  expect(turned.host).toBe(first.host)
  const all = [first.user.next, next, first.user.current].map(key => key.publicKey)
  expect(trustedKeys(turned.user, NOON)).toEqual(all)
  expect(trustedKeys(turned.user, NOON + HOUR * 1000 - 1)).toEqual(all)
  expect(trustedKeys(turned.user, NOON + HOUR * 1000)).toEqual(all.slice(0, 2))
})

test('a key was always known to everybody before it signs, however often and whenever the ring is turned', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 2 * HOUR }), { maxLength: 8 }), seconds => {
      let authority = freshAuthority()
      let now = NOON
      for (const pause of seconds) {
        now += pause * 1000
        const before = trustedKeys(authority.host, now)
        const signed = authority.host.current
        authority = rotate(authority, 'host', freshKey(), now, HOUR)
        expect(before).toContain(authority.host.current.publicKey)
        expect(trustedKeys(authority.host, now + HOUR * 1000 - 1)).toContain(signed.publicKey)
        expect(trustedKeys(authority.host, now + HOUR * 1000)).not.toContain(signed.publicKey)
      }
    }),
    { numRuns: 10 },
  )
})

test('a distrusted key is trusted no more, never comes back, and a key that signs cannot be distrusted', () => {
  const first = freshAuthority()
  expect(() => distrust(first, print(first.user.current))).toThrow(/rotate until it is retired/)
  expect(() => distrust(first, print(first.host.next))).toThrow(/is the next host key/)
  const turned = rotate(first, 'user', freshKey(), NOON, HOUR)
  const without = distrust(turned, print(first.user.current))
  expect(trustedKeys(without.user, NOON)).not.toContain(first.user.current.publicKey)
  expect(without.distrusted).toEqual([first.user.current.publicKey])
  expect(() => distrust(without, print(first.user.current))).toThrow(/has no key/)
  expect(() => rotate(without, 'user', first.user.current, NOON, HOUR)).toThrow(/already/)
  expect(() => rotate(without, 'host', without.user.current, NOON, HOUR)).toThrow(/already/)
})

test('the files for hosts and developers hold every trusted key', () => {
  const { user, host } = freshAuthority()
  expect(trustedUserCaKeys(trustedKeys(user, NOON))).toBe(
    `${user.current.publicKey} drawbridge\n${user.next.publicKey} drawbridge\n`,
  )
  expect(knownHostsLines(trustedKeys(host, NOON), ['gate.example.org', '[gate.example.org]:2222'])).toBe(
    [host.current, host.next]
      .map(key => `@cert-authority gate.example.org,[gate.example.org]:2222 ${key.publicKey}\n`)
      .join(''),
  )
  expect(() => knownHostsLines(trustedKeys(host, NOON), ['a b'])).toThrow(/host pattern/)
  expect(() => knownHostsLines(trustedKeys(host, NOON), [])).toThrow(/host pattern/)
})

test('the state is read back as it was written, and a file that is not whole is an error', async () => {
  const directory = temporaryDirectory()
  expect(await readAuthority(directory)).toBeUndefined()
  const authority = rotate(freshAuthority(), 'user', freshKey(), NOON, HOUR)
  await writeAuthority(directory, authority)
  expect(await readAuthority(directory)).toEqual(authority)
  const file = join(directory, 'authority.json')
  const text = readFileSync(file, 'utf8')
  const broken = [
    text.slice(0, -10),
    '{}',
    text.replace('ssh-ed25519', 'ssh-rsa'),
    text.replace('key.json', '../key.json'),
    text.replaceAll(authority.user.next.publicKey, authority.user.current.publicKey),
  ]
  for (const content of broken) {
    writeFileSync(file, content)
    await expect(readAuthority(directory)).rejects.toThrow(/not the state/)
  }
  chmodSync(file, 0o644)
  await expect(readAuthority(directory)).rejects.toThrow(/others can read/)
})
