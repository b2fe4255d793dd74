import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { publicKeyBlob } from '../../ca/key.ts'
import { readKeyFile, writeKeyFile } from '../../ca/signer/keyfile.ts'
import { allKeys, keys, temporaryDirectory } from './keys.ts'

const passphrase = 'correct horse battery staple'
const cheap = 2 ** 10

test.each(allKeys)('a $name key is encrypted, and read back with its passphrase', async ({ privateKey, blob }) => {
  const file = join(temporaryDirectory(), 'key.json')
  await writeKeyFile(file, privateKey, { passphrase }, cheap)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const secret = Buffer.from(privateKey.export({ format: 'jwk' }).d!, 'base64url')
  expect(Buffer.from(JSON.parse(readFileSync(file, 'utf8')).privateKey, 'base64').includes(secret)).toBe(false)
  const read = await readKeyFile(file, { passphrase })
  expect(publicKeyBlob(read).equals(blob)).toBe(true)
  await expect(readKeyFile(file, { passphrase: `${passphrase} ` })).rejects.toThrow(/wrong passphrase/)
})

test('the cost is scrypt with N = 2^17 unless told otherwise', async () => {
  const file = join(temporaryDirectory(), 'key.json')
  await writeKeyFile(file, keys.ed25519.privateKey, { passphrase })
  expect(JSON.parse(readFileSync(file, 'utf8')).kdf).toMatchObject({ name: 'scrypt', cost: 131072 })
  expect(publicKeyBlob(await readKeyFile(file, { passphrase })).equals(keys.ed25519.blob)).toBe(true)
})

test('every field of the file is authenticated, and a cost that would take all memory is refused before it is paid', async () => {
  const file = join(temporaryDirectory(), 'key.json')
  await writeKeyFile(file, keys.ed25519.privateKey, { passphrase }, cheap)
  const good = JSON.parse(readFileSync(file, 'utf8'))
  const changed = (value: string) => (value[0] === 'A' ? 'B' : 'A') + value.slice(1)
  for (const change of [
    { publicKey: `${good.publicKey} x` },
    { privateKey: changed(good.privateKey) },
    { iv: changed(good.iv) },
    { tag: changed(good.tag) },
    { tag: good.tag.slice(0, 8) },
    { kdf: { ...good.kdf, cost: 2048 } },
    { kdf: { ...good.kdf, salt: changed(good.kdf.salt) } },
  ]) {
    writeFileSync(file, JSON.stringify({ ...good, ...change }))
    await expect(readKeyFile(file, { passphrase })).rejects.toThrow(/wrong passphrase/)
  }
  for (const cost of [2 ** 30, 3000, 0, -1]) {
    writeFileSync(file, JSON.stringify({ ...good, kdf: { ...good.kdf, cost } }))
    await expect(readKeyFile(file, { passphrase })).rejects.toThrow(/cost of/)
  }
  for (const text of [
    '',
    '{}',
    'null',
    '[]',
    JSON.stringify({ ...good, cipher: 'rot13' }),
    JSON.stringify({ ...good, kdf: { ...good.kdf, cost: '1024' } }),
    JSON.stringify({ ...good, format: 'drawbridge-key-v9' }),
  ]) {
    writeFileSync(file, text)
    await expect(readKeyFile(file, { passphrase })).rejects.toThrow(/not a key file/)
  }
})

test('a key without encryption is written and read only by who asks for it', async () => {
  const file = join(temporaryDirectory(), 'key.json')
  await writeKeyFile(file, keys.ed25519.privateKey, { plain: true })
  expect(publicKeyBlob(await readKeyFile(file, { plain: true })).equals(keys.ed25519.blob)).toBe(true)
  // Else whoever can write the file could slip in a key of their own without knowing the passphrase.
  await expect(readKeyFile(file, { passphrase })).rejects.toThrow(/not encrypted/)
  await writeKeyFile(file, keys.ed25519.privateKey, { passphrase }, cheap)
  await expect(readKeyFile(file, { plain: true })).rejects.toThrow(/give its passphrase/)
  await expect(writeKeyFile(file, keys.ed25519.privateKey, { passphrase: '' })).rejects.toThrow(/empty/)
})
