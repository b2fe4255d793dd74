import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parsePublicKeyLine } from '../../../ca/key.ts'
import { type RunningAuthority, startAuthority } from '../../support/authority.ts'
import { git, makeRepository } from '../../support/git.ts'
import { makeKey } from '../../support/keys.ts'
import { runProgram, temporaryFolder } from '../../support/program.ts'
import { run, type TestFront, testFront } from './fixture.ts'

// Certificates of our authority, shown by clients that share no line with OpenSSH: PuTTY (plink), and asyncssh.

let authority: RunningAuthority
let trusted: readonly Buffer[]

beforeAll(async () => {
  authority = await startAuthority()
  trusted = (await authority.client.trusted()).user.map(line => parsePublicKeyLine(line).blob)
})
afterAll(() => authority?.close())

const trusting = () => testFront({ login: { isAuthority: key => trusted.some(own => own.equals(key)) } })

/** A key with the certificate of this moment. Nothing but that speaks for it: the key itself is not registered. */
async function certified(type: 'ed25519' | 'ecdsa' | 'rsa') {
  const size = type === 'rsa' ? { bits: 2048 } : {}
  const key = await makeKey('key', { folder: temporaryFolder('key'), type, ...size })
  await authority.certify(key, 'alice')
  return { key: key.path, certificate: `${key.path}-cert.pub` }
}

const ASYNCSSH = `
import asyncio, asyncssh, sys
port, known_hosts, key, certificate = sys.argv[1:]
async def main():
    async with asyncssh.connect('127.0.0.1', int(port), username='git', client_keys=[(key, certificate)],
                                known_hosts=known_hosts, agent_path=None, config=None) as connection:
        answer = await connection.run('whoami')
        sys.stdout.write(answer.stdout)
        sys.exit(answer.exit_status)
asyncio.run(main())
`

/** PuTTY keeps key and certificate in one file of its own. */
async function puttyKey({ key, certificate }: { key: string; certificate: string }): Promise<string> {
  await runProgram('puttygen', [key, '--certificate', certificate, '-o', `${key}.ppk`])
  return `${key}.ppk`
}

const plink = (gate: TestFront, key: string) => [
  '-ssh',
  '-batch',
  '-noagent',
  '-hostkey',
  gate.hostKey.fingerprint,
  '-i',
  key,
]

test.each(['ed25519', 'rsa'] as const)('a certificate for an %s key logs in with PuTTY’s plink', async type => {
  const gate = await trusting()
  const key = await puttyKey(await certified(type))
  const asked = await run('plink', [...plink(gate, key), '-P', String(gate.port), gate.host, 'whoami'])
  expect(asked).toMatchObject({ status: 0, stdout: expect.stringMatching(/^alice certificate /) })
})

// Not RSA: this asyncssh names such a certificate by its SHA-1 algorithm, which the gate refuses as stock sshd does.
test.each(['ed25519', 'ecdsa'] as const)('a certificate for an %s key logs in with asyncssh', async type => {
  const gate = await trusting()
  const { key, certificate } = await certified(type)
  const script = join(temporaryFolder('asyncssh'), 'whoami.py')
  writeFileSync(script, ASYNCSSH)
  // Debian's own Python, which is the one that has the package.
  const args = ['-W', 'ignore', script, String(gate.port), gate.knownHosts, key, certificate]
  const asked = await run('/usr/bin/python3', args)
  expect(asked).toMatchObject({ status: 0, stdout: expect.stringMatching(/^alice certificate /) })
})

test('git clones through plink, and a certificate of nobody’s authority does not', async () => {
  const gate = await trusting()
  await makeRepository(join(gate.folder, 'acme/app.git'))
  const clone = async (key: string) => {
    const env = { GIT_SSH_COMMAND: ['plink', ...plink(gate, key)].join(' '), GIT_SSH_VARIANT: 'plink' }
    return await git(['clone', '-q', gate.url('acme/app'), join(temporaryFolder('clone'), 'work')], { env })
  }
  const key = await puttyKey(await certified('ed25519'))
  expect(await clone(key)).toMatchObject({ status: 0 })

  const other = await startAuthority()
  const stranger = await makeKey('stranger', { folder: temporaryFolder('key') })
  await other.certify(stranger, 'alice')
  await other.close()
  const refused = await clone(await puttyKey({ key: stranger.path, certificate: `${stranger.path}-cert.pub` }))
  expect(refused.status).not.toBe(0)
  expect(gate.refused.map(({ code }) => code)).toEqual(['unknown-authority'])
})
