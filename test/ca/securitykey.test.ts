import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fingerprint, publicKeyLine, readPublicKey } from '../../ca/key.ts'
import {
  parseUserKeyLine,
  readSecurityKey,
  readUserKey,
  verifySecurityKeySignature,
  verifyUserSignature,
} from '../../ca/securitykey.ts'
import { string } from '../../ca/wire.ts'
import { makeAuthenticator } from '../support/authenticator.ts'
import { runProgram, temporaryFolder } from '../support/program.ts'
import { keys } from './keys.ts'

const MESSAGE = Buffer.from('session, user, service')

describe.each(['ed25519', 'ecdsa'] as const)('a security key of kind %s', kind => {
  const authenticator = makeAuthenticator(kind)
  const key = readSecurityKey(authenticator.blob)
  const holds = (signature: Buffer, data = MESSAGE) => verifySecurityKeySignature(key, data, signature)

  test('is what ssh-keygen takes it for', async () => {
    const file = join(temporaryFolder('sk'), 'key.pub')
    writeFileSync(file, `${publicKeyLine(authenticator.blob, 'a key')}\n`)
    expect(await runProgram('ssh-keygen', ['-l', '-f', file])).toContain(fingerprint(authenticator.blob))
    expect(parseUserKeyLine(publicKeyLine(authenticator.blob, 'a key'))).toMatchObject({
      comment: 'a key',
      application: 'ssh:',
    })
  })

  test('signs, and nothing else that it signed counts for it', () => {
    expect(holds(authenticator.sign(MESSAGE))).toBe(true)
    expect(holds(authenticator.sign(Buffer.from('another session')))).toBe(false)
    expect(holds(makeAuthenticator(kind).sign(MESSAGE))).toBe(false)
    // What a web site had it sign is over another application.
    expect(holds(authenticator.sign(MESSAGE, { application: 'ssh:elsewhere' }))).toBe(false)
  })

  test('has to be touched: a signature without that is refused, and the flag cannot be added afterwards', () => {
    const untouched = authenticator.sign(MESSAGE, { touched: false })
    expect(holds(untouched)).toBe(false)
    const claimed = Buffer.from(untouched)
    claimed[claimed.length - 5] = 1
    expect(holds(claimed)).toBe(false)
  })

  test('no byte of a signature can be changed, left out or added', () => {
    const signature = authenticator.sign(MESSAGE)
    for (let at = 0; at < signature.length; at++) {
      const changed = Buffer.from(signature)
      changed[at]! ^= 1
      expect(holds(changed), `byte ${at}`).toBe(false)
      expect(holds(signature.subarray(0, at)), `${at} bytes`).toBe(false)
    }
    expect(holds(Buffer.concat([signature, Buffer.of(0)]))).toBe(false)
  })

  test('is read to its last byte, and only when it was made for SSH', () => {
    for (let length = 0; length < authenticator.blob.length; length++)
      expect(() => readSecurityKey(authenticator.blob.subarray(0, length))).toThrow()
    expect(() => readSecurityKey(Buffer.concat([authenticator.blob, Buffer.of(0)]))).toThrow()
    expect(() => readSecurityKey(makeAuthenticator(kind, 'example.org').blob)).toThrow('not for ssh:')
    // Where only plain keys are expected (an authority, the subject of a certificate) it is none.
    expect(() => readPublicKey(authenticator.blob)).toThrow('is not taken')
  })

  test('is no other kind of key: the algorithm is the one by its own name', () => {
    const signature = authenticator.sign(MESSAGE)
    expect(verifyUserSignature(readUserKey(authenticator.blob), MESSAGE, signature, authenticator.type)).toBe(true)
    expect(verifyUserSignature(readUserKey(authenticator.blob), MESSAGE, signature, 'ssh-ed25519')).toBe(false)
    expect(verifyUserSignature(readUserKey(keys.p256.blob), MESSAGE, signature, authenticator.type)).toBe(false)
  })
})

test('a point that is not on the curve, or another curve, is no key', () => {
  const point = Buffer.concat([Buffer.of(4), Buffer.alloc(64, 1)])
  const blob = (curve: string) =>
    Buffer.concat([string('sk-ecdsa-sha2-nistp256@openssh.com'), string(curve), string(point), string('ssh:')])
  expect(() => readSecurityKey(blob('nistp256'))).toThrow('not a usable key')
  expect(() => readSecurityKey(blob('nistp384'))).toThrow('no uncompressed point')
})
