import { execFileSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect as connectPlain } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { git } from '../../support/git.ts'
import { temporaryFolder } from '../../support/program.ts'
import { AUTHORIZATION, type FrontUnderTest, sendRaw, startFront, TOKEN } from './front.ts'

const REQUEST = `GET /acme/app.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}Connection: close\r\n\r\n`

const folder = temporaryFolder('tls')
const files = { certificate: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }

function makeCertificate(name: string): { certificate: string; key: string } {
  const made = { certificate: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync(
    'openssl',
    ['req', '-x509', ...curve, '-keyout', made.key, '-out', made.certificate, '-days', '2', ...subject],
    {
      stdio: 'ignore',
    },
  )
  return made
}

function install(made: { certificate: string; key: string }): void {
  copyFileSync(made.key, `${files.key}.new`)
  copyFileSync(made.certificate, `${files.certificate}.new`)
  renameSync(`${files.key}.new`, files.key)
  renameSync(`${files.certificate}.new`, files.certificate)
}

interface Spoken {
  readonly text: string
  readonly name: string | undefined
  readonly session: Buffer | undefined
  readonly reused: boolean
  readonly protocol: string | null
}

function speak(port: number, options: ConnectionOptions = {}, before = ''): Promise<Spoken> {
  return new Promise((resolve, reject) => {
    const raw = connectPlain(port, '127.0.0.1', () => raw.write(before))
    let session: Buffer | undefined
    let text = ''
    const socket: TLSSocket = connect({ socket: raw, rejectUnauthorized: false, ...options }, () => {
      const reused = socket.isSessionReused()
      const name = socket.getPeerCertificate().subject?.CN?.toString()
      const protocol = socket.getProtocol()
      socket.on('close', () => resolve({ text, name, session, reused, protocol }))
      socket.write(REQUEST)
    })
    socket.on('session', ticket => {
      session = ticket
    })
    socket.on('data', chunk => {
      text += chunk
    })
    socket.on('error', reject)
    raw.on('error', reject)
  })
}

let front: FrontUnderTest
let first: { certificate: string; key: string }
beforeAll(async () => {
  first = makeCertificate('first')
  install(first)
  front = await startFront(
    async client => {
      client.response.write(`hello from ${client.caller.origin.address}`)
      return { status: 0, operation: 'op-test' }
    },
    { listen: { host: '127.0.0.1', port: 0, tls: files } },
  )
})
afterAll(() => front.close(0))

test('git speaks to it over TLS and verifies it', async () => {
  const url = `${front.url.replace('//', `//x:${TOKEN}@`)}/acme/app.git`
  const trusting = await git(['ls-remote', url], { env: { GIT_SSL_CAINFO: files.certificate } })
  expect(trusting.stderr).not.toMatch(/certificate/i)
  expect(front.served.length).toBeGreaterThan(0)
  expect((await git(['ls-remote', url])).stderr).toMatch(/certificate/i)
})

test('sessions are resumed, and nothing older than TLS 1.2 is spoken', async () => {
  const { session, protocol } = await speak(front.address.port)
  expect(protocol).toBe('TLSv1.3')
  expect((await speak(front.address.port, { session })).reused).toBe(true)
  const older = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  await expect(speak(front.address.port, older)).rejects.toThrow()
  expect((await speak(front.address.port, { maxVersion: 'TLSv1.2' })).text).toContain('hello')
})

test('37: a server name that is not ours, or none at all, makes no difference', async () => {
  for (const servername of ['elsewhere.example', 'a..b', 'x'.repeat(255), '']) {
    expect((await speak(front.address.port, { servername })).text).toContain('hello')
  }
})

test('plain HTTP, garbage and a half handshake on a TLS port end the connection and nothing else', async () => {
  expect((await sendRaw(front.address, [REQUEST])).closed).toBe(true)
  expect((await sendRaw(front.address, [Buffer.from('16030100ff', 'hex'), Buffer.alloc(255, 0x41)])).closed).toBe(true)
  await sendRaw(front.address, [Buffer.from('1603010200', 'hex')], { milliseconds: 50 })
  expect((await speak(front.address.port)).text).toContain('hello')
})

test('behind a load balancer the PROXY header comes in front of TLS', async () => {
  const behind = await startFront(
    async client => {
      client.response.write(`hello from ${client.caller.origin.address}`)
      return { status: 0, operation: 'op-test' }
    },
    { listen: { host: '127.0.0.1', port: 0, tls: files }, isLoadBalancer: () => true },
  )
  const { text } = await speak(behind.address.port, {}, 'PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n')
  expect(text).toContain('hello from 192.0.2.7')
  await behind.close(0)
})

test('new certificate files are taken up; bad ones are not, and that is said once', async () => {
  install(makeCertificate('second'))
  await front.reload()
  expect((await speak(front.address.port)).name).toBe('second')

  // The key of another certificate: half of a renewal, or a mistake.
  writeFileSync(files.key, execFileSync('cat', [first.key]))
  await front.reload()
  writeFileSync(files.certificate, 'not a certificate')
  await front.reload()
  await front.reload()
  expect((await speak(front.address.port)).name).toBe('second')
  expect(front.log.filter(line => line.includes('stays in use')).length).toBe(2)

  install(first)
  await front.reload()
  expect((await speak(front.address.port)).name).toBe('first')
})

test('told to go on with other files it takes them, or refuses them whole', async () => {
  const other = { certificate: `${files.certificate}.other`, key: `${files.key}.other` }
  await expect(front.reload(other)).rejects.toThrow('ENOENT')
  const second = makeCertificate('other')
  writeFileSync(other.certificate, readFileSync(second.certificate))
  writeFileSync(other.key, readFileSync(first.key))
  await expect(front.reload(other)).rejects.toThrow(/key values mismatch/)
  expect((await speak(front.address.port)).name).toBe('first')

  writeFileSync(other.key, readFileSync(second.key))
  await front.reload(other)
  expect((await speak(front.address.port)).name).toBe('other')
  await front.reload(files)
})

test('a front whose certificate cannot be read does not start', async () => {
  const tls = { certificate: join(folder, 'none'), key: files.key }
  const starting = startFront(async () => ({ status: 0, operation: 'op' }), {
    listen: { host: '127.0.0.1', port: 0, tls },
  })
  await expect(starting).rejects.toThrow('none')
})
