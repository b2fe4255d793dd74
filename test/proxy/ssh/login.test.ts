import { spawn } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ssh2, { type Client, type ParsedKey } from 'ssh2'
import { beforeAll, describe, expect, test } from 'vitest'
import type { SigninRefused } from '../../../audit/record.ts'
import { encodeCertificate, encodeUnsigned, parseCertificateLine } from '../../../ca/certificate.ts'
import { fingerprint } from '../../../ca/key.ts'
import { sign } from '../../../ca/signature.ts'
import { makeAuthenticator, startAuthenticatorAgent } from '../../support/authenticator.ts'
import { type Key, makeKey, signKey } from '../../support/keys.ts'
import { temporaryFolder, until } from '../../support/program.ts'
import { blobOf, run, type TestFront, testFront } from './fixture.ts'

let ca: Key
let folder: string

beforeAll(async () => {
  folder = temporaryFolder('login')
  ca = await makeKey('ca', { folder })
})

/** A front that trusts `ca` for user certificates. */
const trusting = (changes: Parameters<typeof testFront>[0] = {}) =>
  testFront({ ...changes, login: { isAuthority: key => key.equals(blobOf(ca)), ...changes?.login } })

const whoami = (gate: TestFront, key: Key, extra: readonly string[] = [], user = 'git') =>
  run('ssh', [...gate.ssh(key, extra), `${user}@127.0.0.1`, 'whoami'])

/** Waits for the record that a connection without a login leaves behind. */
const recorded = (gate: TestFront): Promise<SigninRefused> => until(() => gate.refused[0], 'the refusal to be recorded')

describe('registered keys', () => {
  test.each([
    ['ed25519', {}],
    ['ecdsa', { bits: 256 }],
    ['ecdsa', { bits: 384 }],
    ['ecdsa', { bits: 521 }],
    ['rsa', { bits: 3072 }],
  ] as const)('of type %s %j log in', async (type, size) => {
    const gate = await testFront()
    const key = await makeKey('key', { folder: temporaryFolder('key'), type, ...size })
    gate.keys.set(key.fingerprint, { principal: 'bob' })
    expect(await whoami(gate, key)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^bob key /) })
  })

  test.each(['ed25519', 'ecdsa'] as const)(
    'in an authenticator (sk-%s) log in with stock ssh, once touched',
    async kind => {
      const gate = await testFront()
      const authenticator = makeAuthenticator(kind)
      const print = fingerprint(authenticator.blob)
      const login = async (how: { touched?: boolean } = {}) => {
        const agent = await startAuthenticatorAgent(authenticator, how)
        const extra = ['-o', 'IdentitiesOnly=no', '-o', `IdentityAgent=${agent.socket}`]
        // The first of two settings counts, so that these have to come before those of `ssh`.
        const said = await run('ssh', [...extra, ...gate.ssh(undefined), 'git@127.0.0.1', 'whoami'])
        agent.close()
        return said
      }
      expect((await login()).status).toBe(255)
      gate.keys.set(print, { principal: 'bob' })
      expect(await login()).toMatchObject({ status: 0, stdout: expect.stringMatching(/^bob key /) })
      expect((await login({ touched: false })).status).toBe(255)
      expect(gate.refused.at(-1)).toMatchObject({ code: 'bad-signature' })
    },
  )

  test('RSA keys sign with SHA-2 only: a client that insists on SHA-1 is told so', async () => {
    const gate = await testFront()
    const key = await makeKey('key', { folder: temporaryFolder('key'), type: 'rsa', bits: 2048 })
    gate.keys.set(key.fingerprint, { principal: 'bob' })
    for (const algorithm of ['rsa-sha2-256', 'rsa-sha2-512']) {
      expect((await whoami(gate, key, ['-o', `PubkeyAcceptedAlgorithms=${algorithm}`])).status).toBe(0)
    }
    const sha1 = await whoami(gate, key, ['-o', 'PubkeyAcceptedAlgorithms=ssh-rsa'])
    expect(sha1.status).toBe(255)
    // OpenSSH heeds server-sig-algs and does not even try; a client that does is refused by `recognise`.
    expect(sha1.stderr).toContain('Permission denied')
    const insisting = lie(gate, { probe: key, present: key, sign: key, algorithm: 'ssh-rsa' })
    await expect(insisting).rejects.toThrow('authentication methods failed')
    await until(() => gate.refused.length > 0)
    expect(gate.refused.at(-1)).toMatchObject({ code: 'key-algorithm' })
  })

  test('that are unknown or expired, or log in as somebody else, are refused and recorded once', async () => {
    const gate = await testFront()
    const key = await makeKey('unknown', { folder: temporaryFolder('key') })
    const refused = await whoami(gate, key)
    expect(refused.status).toBe(255)
    expect(refused.stderr).toContain('Permission denied')
    expect(await recorded(gate)).toEqual({
      kind: 'signin.refused',
      code: 'unknown-key',
      reason: `key ${key.fingerprint} is not registered`,
      claimed: 'git',
      origin: expect.objectContaining({ transport: 'ssh', address: '127.0.0.1' }),
    })
    gate.keys.set(key.fingerprint, { principal: 'bob', expires: Date.now() - 1 })
    expect((await whoami(gate, key)).status).toBe(255)
    gate.keys.set(key.fingerprint, { principal: 'bob' })
    expect((await whoami(gate, key, [], 'alice')).status).toBe(255)
    expect((await whoami(gate, key, [], 'root')).status).toBe(255)
    expect((await whoami(gate, key, [], 'bob')).status).toBe(0)
    await until(() => gate.refused.length === 4)
    expect(gate.refused.map(({ code }) => code)).toEqual(['unknown-key', 'key-expired', 'wrong-user', 'wrong-user'])
  })

  test('that are unknown are told how a key is registered, once, and every client the same', async () => {
    const gate = await testFront()
    const key = await makeKey('unknown', { folder: temporaryFolder('key') })
    const expired = await makeKey('expired', { folder: temporaryFolder('key') })
    gate.keys.set(expired.fingerprint, { principal: 'bob', expires: Date.now() - 1 })
    const said = []
    for (const shown of [key, expired]) {
      const args = gate.ssh(shown).map(each => (each === 'BatchMode=yes' ? 'BatchMode=no' : each))
      const { status, stderr } = await run('ssh', [...args, gate.host, 'whoami'])
      expect(status).toBe(255)
      expect(stderr.match(/drawbridge key add/g)).toHaveLength(1)
      said.push(stderr)
    }
    expect(said[0]).toBe(said[1])
    await until(() => gate.refused.length === 2)
  })

  test('behind others in an agent are found, and the ones before them leave no record', async () => {
    const gate = await testFront()
    const others = await Promise.all([1, 2, 3].map(n => makeKey(`other-${n}`, { folder: temporaryFolder('key') })))
    const files = [...others.slice(1), gate.alice].flatMap(key => ['-i', key.path])
    const asked = await run('ssh', [...gate.ssh(others[0], files), gate.host, 'whoami'])
    expect(asked.stdout).toMatch(/^alice /)
    await until(() => gate.front.connections() === 0)
    expect(gate.refused).toEqual([])
  })

  test('more than the limit of them end the connection with a sentence', async () => {
    const gate = await testFront({ limits: { loginAttempts: 3 } })
    const others = await Promise.all([1, 2, 3, 4].map(n => makeKey(`other-${n}`, { folder: temporaryFolder('key') })))
    const files = [...others, gate.alice].flatMap(key => ['-i', key.path])
    const asked = await run('ssh', [...gate.ssh(undefined, files), gate.host, 'whoami'])
    expect(asked.status).toBe(255)
    expect(asked.stderr).toContain('too many login attempts; offer fewer keys (IdentitiesOnly=yes)')
  })

  test('from a source that failed too often are not looked at, but those that were good lately are', async () => {
    const looked: string[] = []
    const good = new Set<string>()
    const gate = await testFront({
      login: {
        findKey: async fingerprint => {
          looked.push(fingerprint)
          return { principal: 'alice' }
        },
      },
      throttle: { wait: (_address, key) => (good.has(key) ? 0 : 7), failed: () => 0, succeeded: key => good.add(key) },
    })
    const refused = await whoami(gate, gate.alice)
    expect(refused.stderr).toContain('too many failed logins from your address; wait 7 s')
    expect(looked).toEqual([])
    good.add(gate.alice.fingerprint)
    expect((await whoami(gate, gate.alice)).status).toBe(0)
  })

  test('cannot be looked up: nobody is let in', async () => {
    const gate = await testFront({ login: { findKey: () => Promise.reject(new Error('the database is away')) } })
    const asked = await whoami(gate, gate.alice)
    expect(asked.status).toBe(255)
    expect(asked.stderr).toContain('the login failed by a fault of the server; try again')
    expect(gate.logged.join()).toContain('the database is away')
  })
})

describe('certificates', () => {
  const certified = async (
    options: Partial<Parameters<typeof signKey>[0]> & {
      type?: Key extends never ? never : 'ed25519' | 'rsa' | 'ecdsa'
    } = {},
  ) => {
    const { type = 'ed25519', ...rest } = options
    const key = await makeKey('key', { folder: temporaryFolder('key'), type })
    const { certificate } = await signKey({ ca, key, id: 'bob', principals: ['bob'], serial: 7, ...rest })
    return { key, certificate }
  }

  test.each(['ed25519', 'ecdsa', 'rsa'] as const)('of %s keys log in as the key id says', async type => {
    const gate = await trusting()
    const { key } = await certified({ type })
    expect((await whoami(gate, key)).stdout).toMatch(/^bob certificate /)
    await run('ssh', [...gate.ssh(key), gate.host, "git-upload-pack 'acme/app'"])
    expect(gate.clients[0]?.caller).toMatchObject({
      principal: 'bob',
      identity: {
        kind: 'certificate',
        serial: '7',
        keyId: 'bob',
        fingerprint: key.fingerprint,
        authority: ca.fingerprint,
      },
      credentials: ['serial:7', `key:${key.fingerprint}`],
    })
  })

  test.each([
    [['bob'], 'git', true],
    [['bob'], 'bob', true],
    [['git'], 'git', true],
    [['git'], 'bob', false],
    [['bob'], 'alice', false],
    [['alice'], 'git', false],
    [['root', 'deploy'], 'git', false],
  ])('for the principals %j log in as %s: %j', async (principals, user, allowed) => {
    const gate = await trusting()
    const { key } = await certified({ principals })
    const asked = await whoami(gate, key, [], user)
    expect(asked.status).toBe(allowed ? 0 : 255)
    if (allowed) expect(asked.stdout).toMatch(/^bob /)
    else expect(asked.stderr).toContain('drawbridge: certificate serial 7: ')
  })

  test.each([
    ['has expired', { validity: '-2h:-1h' }, 'expired', 'expired at '],
    ['is not valid yet', { validity: '+1h:+2h' }, 'not-yet-valid', 'not valid before '],
    ['names nobody', { principals: [] }, 'no-principals', 'names no principal'],
    [
      'holds an unknown critical option',
      { options: ['critical:two-keys@example.org=x'] },
      'unknown-critical-option',
      'is not understood',
    ],
    ['is for other addresses', { options: ['source-address=10.0.0.0/8'] }, 'source-address', '127.0.0.1 is not in'],
    ['forces a command', { options: ['force-command=id'] }, 'unknown-critical-option', 'force-command is not obeyed'],
    ['has a key id that is no name', { id: 'bob smith' }, 'key-id', 'is no name'],
  ] as const)('that %s is refused, and says so', async (_what, options, code, sentence) => {
    const gate = await trusting()
    const { key } = await certified({ ...options })
    const asked = await whoami(gate, key)
    expect(asked.status).toBe(255)
    expect(asked.stderr).toContain('drawbridge: certificate serial 7: ')
    expect(asked.stderr).toContain(sentence)
    // ssh goes on to offer the bare key, which nobody knows; what matters is said of the certificate.
    expect(await recorded(gate)).toMatchObject({ code })
  })

  test("that is a host's is refused", async () => {
    const gate = await trusting()
    const { key, certificate } = await certified({ host: true })
    // Stock ssh does not even offer it.
    const login = lie(gate, {
      probe: key,
      present: key,
      sign: key,
      certificate: parseCertificateLine(certificate).blob,
    })
    await expect(login).rejects.toThrow('authentication methods failed')
    expect(await recorded(gate)).toMatchObject({ code: 'wrong-type' })
  })

  test('for this address logs in', async () => {
    const gate = await trusting()
    const { key } = await certified({ options: ['source-address=10.0.0.0/8,127.0.0.0/8'] })
    expect((await whoami(gate, key)).status).toBe(0)
  })

  test('revoked, by its serial, while its connection is open: the next command is refused', async () => {
    const revoked = new Set<bigint>()
    const gate = await trusting({ login: { isRevoked: ({ serial }) => revoked.has(serial) } })
    const { key } = await certified()
    const control = ['-o', `ControlPath=${join(temporaryFolder('mux'), 's')}`]
    const master = spawn('ssh', [...gate.ssh(key, control), '-M', '-N', gate.host], { stdio: 'ignore' })
    await until(async () => (await run('ssh', [...gate.ssh(key, control), '-O', 'check', gate.host])).status === 0)
    expect((await run('ssh', [...gate.ssh(key, control), gate.host, 'whoami'])).status).toBe(0)
    revoked.add(7n)
    expect((await run('ssh', [...gate.ssh(key, control), gate.host, 'whoami'])).status).toBe(128)
    master.kill()
    expect((await whoami(gate, key)).status).toBe(255)
  })

  test('by an unknown authority is refused', async () => {
    const gate = await trusting()
    const other = await makeKey('ca2', { folder: temporaryFolder('key') })
    const { key } = await certified({ ca: other })
    const asked = await whoami(gate, key)
    expect(asked.status).toBe(255)
    expect(asked.stderr).toContain('which is no trusted user authority')
  })

  // CVE-2025-49825: a certificate in the place of the authority's key was taken for the key inside it, so that whoever held
  // one certificate could sign others.
  test('signed by a certificate is refused, whatever is trusted', async () => {
    const gate = await testFront({ login: { isAuthority: () => true } })
    const { key: holder, certificate } = await certified()
    const inner = parseCertificateLine(certificate)
    const forged = { ...inner, keyId: 'alice', principals: ['alice'], authority: inner.blob }
    const blob = encodeCertificate(
      forged,
      sign(createPrivateKey(ssh2Key(holder).getPrivatePEM()), encodeUnsigned(forged)),
    )
    const login = lie(gate, { probe: holder, present: holder, sign: holder, certificate: blob })
    await expect(login).rejects.toThrow('authentication methods failed')
    expect(await recorded(gate)).toMatchObject({
      code: 'malformed-key',
      reason: expect.stringContaining('signed by a certificate'),
    })
  })

  test("presented with another key's signature is refused", async () => {
    const gate = await trusting()
    const { key: holder, certificate } = await certified()
    const { blob } = parseCertificateLine(certificate)
    const thief = lie(gate, { probe: holder, present: holder, sign: gate.alice, certificate: blob })
    await expect(thief).rejects.toThrow('authentication methods failed')
    expect(await recorded(gate)).toMatchObject({ code: 'bad-signature' })
  })
})

// CVE-2024-45337: a server that remembered the last key it was asked about let in whoever knew somebody's public key.
describe('the key that signs is the one that counts', () => {
  test("a probe of alice's key and a signature by mallory's is mallory's login, or none", async () => {
    const gate = await testFront()
    const mallory = await makeKey('mallory', { folder: temporaryFolder('key') })
    gate.keys.set(mallory.fingerprint, { principal: 'mallory' })
    const client = await lie(gate, { probe: gate.alice, present: mallory, sign: mallory })
    expect(await exec(client, 'whoami')).toMatch(/^mallory key /)
    client.end()
    gate.keys.delete(mallory.fingerprint)
    const refused = lie(gate, { probe: gate.alice, present: mallory, sign: mallory })
    await expect(refused).rejects.toThrow('authentication methods failed')
  })

  test("a signature by another key under alice's is refused and recorded at once", async () => {
    const gate = await testFront()
    const mallory = await makeKey('mallory', { folder: temporaryFolder('key') })
    gate.keys.set(mallory.fingerprint, { principal: 'mallory' })
    const forged = lie(gate, { probe: gate.alice, present: gate.alice, sign: mallory })
    await expect(forged).rejects.toThrow('authentication methods failed')
    expect(await recorded(gate)).toMatchObject({ code: 'bad-signature', claimed: 'git' })
  })

  test('nothing but a public key lets in: no password, no keyboard, nothing at all', async () => {
    const gate = await testFront()
    for (const method of ['none', 'password', 'keyboard-interactive'] as const) {
      const client = new ssh2.Client()
      const over = new Promise<Error>(resolve =>
        client.once('error', resolve).once('ready', () => resolve(new Error('let in'))),
      )
      let tried = false
      client.connect({
        host: '127.0.0.1',
        port: gate.port,
        username: 'git',
        password: 'x',
        tryKeyboard: true,
        authHandler: () => {
          if (tried) return false
          tried = true
          return method
        },
      })
      expect((await over).message).toContain('authentication methods failed')
    }
  })
})

describe('sign-in of an unknown key', () => {
  test('stock ssh shows the address and code, and goes on with the very same command', async () => {
    const gate = await testFront({
      login: {
        signIn: async ({ fingerprint, user }, show) => {
          show(`Sign in as ${user}: https://gate.example/device  code WDJB-MJHT`)
          await new Promise(resolve => setTimeout(resolve, 200))
          gate.keys.set(fingerprint, { principal: 'carol' })
          return true
        },
      },
    })
    const key = await makeKey('carol', { folder: temporaryFolder('key') })
    const args = gate.ssh(key).map(each => (each === 'BatchMode=yes' ? 'BatchMode=no' : each))
    const terminal = ['-qec', ['ssh', ...args, gate.host, 'whoami'].map(word => `'${word}'`).join(' '), '/dev/null']
    const first = await run('script', terminal)
    expect(first.stdout).toContain('https://gate.example/device  code WDJB-MJHT')
    expect(first.stdout).toContain('carol key ')
    expect((await whoami(gate, key)).stdout).toMatch(/^carol key /)
  })

  test('is only offered to whoever has proved possession of a key', async () => {
    let asked = 0
    const signIn = async () => {
      asked++
      return true
    }
    const gate = await testFront({ login: { signIn } })
    const carol = await makeKey('carol', { folder: temporaryFolder('key') })
    const forged = lie(gate, { probe: carol, present: carol, sign: gate.alice })
    await expect(forged).rejects.toThrow('authentication methods failed')
    const client = new ssh2.Client()
    const over = new Promise<Error>(resolve =>
      client.once('error', resolve).once('ready', () => resolve(new Error('let in'))),
    )
    const methods = ['keyboard-interactive', 'keyboard-interactive']
    client.connect({
      host: '127.0.0.1',
      port: gate.port,
      username: 'git',
      tryKeyboard: true,
      authHandler: () => methods.pop() ?? false,
    })
    expect((await over).message).toContain('authentication methods failed')
    expect(asked).toBe(0)
  })

  test('given up in the browser is refused', async () => {
    const gate = await testFront({ login: { signIn: async () => false } })
    const key = await makeKey('carol', { folder: temporaryFolder('key') })
    const args = gate.ssh(key).map(each => (each === 'BatchMode=yes' ? 'BatchMode=no' : each))
    const terminal = [
      '-qec',
      ['ssh', ...args, '-o', 'NumberOfPasswordPrompts=1', gate.host, 'whoami'].map(word => `'${word}'`).join(' '),
      '/dev/null',
    ]
    expect((await run('script', terminal)).status).toBe(255)
    expect(await recorded(gate)).toMatchObject({ code: 'sign-in' })
  })
})

// ---- a client that lies ----

interface Lie {
  /** Asked about first, without a signature. */
  readonly probe: Key
  /** Presented in the request that is signed. */
  readonly present: Key
  readonly sign: Key
  /** The algorithm named in both requests. */
  readonly algorithm?: string
  readonly certificate?: Buffer
}

type AuthPK = (
  user: string,
  key: ParsedKey,
  algorithm?: string,
  sign?: (data: Buffer, done: (signature: Buffer) => void) => void,
) => void

/** Logs in by ssh2's client, with the public key requests rewritten on their way out. */
function lie(gate: TestFront, { probe, present, sign, algorithm, certificate }: Lie): Promise<Client> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client()
    client.once('ready', () => resolve(client)).once('error', reject)
    let tried = false
    client.connect({
      host: '127.0.0.1',
      port: gate.port,
      username: 'git',
      authHandler: () => {
        if (tried) return false
        tried = true
        return { type: 'publickey', username: 'git', key: ssh2Key(probe), ...(certificate ? { certificate } : {}) }
      },
    })
    const protocol: { authPK: AuthPK } = Reflect.get(client, '_protocol')
    const authPK = protocol.authPK.bind(protocol)
    protocol.authPK = (user, key, named, signer) => {
      if (!signer) return authPK(user, key, algorithm ?? named)
      const shown = certificate ? key : ssh2Key(present)
      return authPK(user, shown, algorithm ?? named, (data, done) => done(ssh2Key(sign).sign(data)))
    }
  })
}

function exec(client: Client, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) return reject(error)
      let out = ''
      channel.on('data', (chunk: Buffer) => {
        out += chunk
      })
      return channel.on('close', () => resolve(out))
    })
  })
}

function ssh2Key(key: Key): ParsedKey {
  const parsed = ssh2.utils.parseKey(readFileSync(key.path))
  if (parsed instanceof Error) throw parsed
  return parsed
}
