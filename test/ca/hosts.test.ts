/** The authority as hosts and developers meet it: stock sshd and stock ssh with nothing but its keys, certificates and KRL. */
import { writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { knownHostsLines } from '../../ca/authority.ts'
import { type Certificate, certificateLine } from '../../ca/certificate.ts'
import { authorityClient } from '../../ca/client.ts'
import { type CertificateRequest, ISSUE_LIMITS } from '../../ca/issue.ts'
import { parsePublicKeyLine } from '../../ca/key.ts'
import { encodeKrl } from '../../ca/krl.ts'
import { main } from '../../ca/main.ts'
import { opensshPrivateKey } from '../../ca/privatekey.ts'
import { makeKey } from '../support/keys.ts'
import { sshOptions, startSshd } from '../support/sshd.ts'
import { keys, run, type TestKey, temporaryDirectory } from './keys.ts'

const user = userInfo().username
const by = 'eve@example.org'

test('a host certificate makes a gate known, a user certificate opens it, a rotation changes neither, a revocation ends it', async () => {
  const directory = temporaryDirectory()
  const socket = join(directory, 's')
  const running = await main({
    directory: join(directory, 'ca'),
    socket,
    protection: { plain: true },
    emit: async () => {},
    limits: ISSUE_LIMITS,
    create: true,
  })
  onTestFinished(() => running.close())
  const client = authorityClient(socket)
  const issue = async (
    request: Pick<CertificateRequest, 'type' | 'publicKey' | 'principals'>,
  ): Promise<Certificate> => {
    const answer = await client.issue({ by, keyId: 'ada@example.org', expires: Date.now() + 600_000, ...request })
    if (!answer.ok) throw new Error(answer.reason)
    return answer.certificate
  }

  const hostKey = await makeKey('host', { folder: directory })
  const hostCertificate = await issue({
    type: 'host',
    publicKey: parsePublicKeyLine(hostKey.publicKey).blob,
    principals: ['gate.example.org'],
  })
  writeFileSync(`${hostKey.path}-cert.pub`, `${certificateLine(hostCertificate)}\n`)
  const trusted = await client.trusted()
  const krlFile = join(directory, 'krl')
  writeFileSync(krlFile, encodeKrl(await client.krl()))
  const sshd = await startSshd({
    hostKey,
    hostCertificate: `${hostKey.path}-cert.pub`,
    trustedUserCAKeys: trusted.user,
    config: [`RevokedKeys ${krlFile}`],
  })
  onTestFinished(() => sshd.stop())
  const knownHosts = join(directory, 'known_hosts')

  let count = 0
  const login = async (certificate: Certificate, subject: TestKey, host = 'gate.example.org'): Promise<string> => {
    const key = join(directory, `key-${++count}`)
    writeFileSync(key, opensshPrivateKey(subject.privateKey), { mode: 0o600 })
    writeFileSync(`${key}-cert.pub`, `${certificateLine(certificate)}\n`)
    writeFileSync(knownHosts, knownHostsLines(trusted.host, ['gate.example.org', 'gate.example.net']))
    const options = sshOptions({
      key,
      knownHosts,
      extra: ['-o', `HostKeyAlias=${host}`, '-p', String(sshd.port)],
    })
    const { stdout } = await run('ssh', [...options, `${user}@127.0.0.1`, 'echo in']).catch(
      (error: { stderr: string }) => ({ stdout: error.stderr }),
    )
    return stdout.trim()
  }

  const before = await issue({ type: 'user', publicKey: keys.ed25519.blob, principals: [user] })
  expect(await login(before, keys.ed25519)).toBe('in')
  // The certificate names another host than the one dialled.
  expect(await login(before, keys.ed25519, 'gate.example.net')).toContain('Host key verification failed')

  expect(await client.rotate({ by, ring: 'user' })).toEqual({ ok: true })
  const after = await issue({ type: 'user', publicKey: keys.rsa.blob, principals: [user] })
  expect(after.authority.equals(before.authority)).toBe(false)
  expect(await login(before, keys.ed25519)).toBe('in')
  expect(await login(after, keys.rsa)).toBe('in')

  await client.revoke({ by, reason: 'laptop lost', serial: String(before.serial) })
  writeFileSync(krlFile, encodeKrl(await client.krl()))
  expect(await login(before, keys.ed25519)).toContain('Permission denied')
  expect(await login(after, keys.rsa)).toBe('in')
})
