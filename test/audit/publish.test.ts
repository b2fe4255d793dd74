import { chmod, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { type Head, loadHeadKey, parseHead, readPublicKeys, signHead, verifyHead } from '../../audit/head.ts'
import { fileHeads, lastHeadIn, redisHeads, streamHeads, webhookHeads } from '../../audit/publish.ts'
import { temporary } from './database.ts'

const key = await loadHeadKey(join(await temporary(), 'key'))
const head = (seq: number): Head =>
  signHead(key, { seq, hash: 'a'.repeat(64), root: 'b'.repeat(64), time: '2026-01-31T12:34:56.789Z' })

test('the key is made once, for its owner alone, with its public half beside it', async () => {
  const path = join(await temporary(), 'key')
  const made = await loadHeadKey(path)
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  expect((await loadHeadKey(path)).id).toBe(made.id)
  expect(verifyHead(signHead(made, head(1)), await readPublicKeys(`${path}.pub`))).toBe(true)
})

test('a key that others can read is not used', async () => {
  const path = join(await temporary(), 'key')
  await loadHeadKey(path)
  await chmod(path, 0o644)
  await expect(loadHeadKey(path)).rejects.toThrow('chmod 600')
})

test('a head passes with its key and with no other, and says so for any change', () => {
  const signed = head(7)
  expect(verifyHead(signed, [key.publicKey])).toBe(true)
  expect(verifyHead(signed, [])).toBe(false)
  expect(verifyHead({ ...signed, seq: 8 }, [key.publicKey])).toBe(false)
  expect(verifyHead({ ...signed, seq: 0.5 }, [key.publicKey])).toBe(false)
  expect(verifyHead({ ...signed, signature: 'AAAA' }, [key.publicKey])).toBe(false)
  expect(() => parseHead('{"seq":"1"}')).toThrow('seq')
  expect(() => parseHead('{"seq":1,"hash":"x"}')).toThrow('root')
})

test('heads are appended to a file, and the last whole one is found again behind a torn line', async () => {
  const path = join(await temporary(), 'heads')
  expect(await lastHeadIn(path)).toBeUndefined()
  const { publish } = fileHeads(path)
  await publish(head(1))
  await publish(head(2))
  expect((await readFile(path, 'utf8')).trim().split('\n').map(parseHead)).toEqual([head(1), head(2)])
  await writeFile(path, `${await readFile(path, 'utf8')}{"seq":3,"hash":"tor`)
  expect(await lastHeadIn(path)).toEqual(head(2))
})

test('a link in place of the heads file is not followed', async () => {
  const folder = await temporary()
  await writeFile(join(folder, 'elsewhere'), '')
  await symlink(join(folder, 'elsewhere'), join(folder, 'heads'))
  await expect(fileHeads(join(folder, 'heads')).publish(head(1))).rejects.toMatchObject({ code: 'ELOOP' })
})

test('a head goes to standard output as one line and to Redis as one field', async () => {
  const out = new PassThrough()
  await streamHeads(out).publish(head(1))
  expect(JSON.parse(out.read().toString())).toEqual({ event: 'ledger.head', ...head(1) })
  const added: string[][] = []
  await redisHeads(async (...pair) => added.push(pair)).publish(head(1))
  expect(added).toEqual([['head', JSON.stringify(head(1))]])
})

test('a webhook gets the head, and anything but success is a failure: also a redirect, which is not followed', async () => {
  const got: string[] = []
  let status = 204
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    got.push(`${request.url} ${request.headers.authorization} ${body}`)
    response.writeHead(status, { location: '/elsewhere' }).end()
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/heads`)
  const { publish } = webhookHeads(url, { authorization: 'Bearer t' })
  await publish(head(1))
  for (const failing of [302, 500]) {
    status = failing
    await expect(publish(head(2))).rejects.toThrow(String(failing))
  }
  expect(got).toEqual([head(1), head(2), head(2)].map(one => `/heads Bearer t ${JSON.stringify(one)}`))
  server.close()
})
