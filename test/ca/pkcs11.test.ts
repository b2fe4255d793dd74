import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { checkCertificate } from '../../ca/check.ts'
import { signCertificate } from '../../ca/sign.ts'
import { agentSigner } from '../../ca/signer/agent.ts'
import { startAgent } from '../support/agent.ts'
import { keys, NOON, run, temporaryDirectory, userCertificate } from './keys.ts'

const MODULE = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so'].find(
  existsSync,
) as string

test('an authority whose key is in a PKCS #11 token issues certificates through ssh-agent', async () => {
  const directory = temporaryDirectory()
  const environment = { ...process.env, SOFTHSM2_CONF: join(directory, 'softhsm2.conf') }
  mkdirSync(join(directory, 'tokens'))
  writeFileSync(environment.SOFTHSM2_CONF, `directories.tokendir = ${join(directory, 'tokens')}\n`)
  const softhsm = (...args: string[]) => run('softhsm2-util', args, { env: environment })
  await softhsm('--init-token', '--free', '--label', 'gate', '--so-pin', '87654321', '--pin', '1234')
  for (const [i, key] of [keys.p256, keys.rsa].entries()) {
    const file = join(directory, `${key.name}.pem`)
    writeFileSync(file, key.privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 })
    await softhsm('--import', file, '--token', 'gate', '--label', key.name, '--id', `0${i + 1}`, '--pin', '1234')
  }
  const askpass = join(directory, 'askpass')
  writeFileSync(askpass, '#!/bin/sh\necho 1234\n', { mode: 0o700 })
  // It loads modules from /usr/lib and /usr/local/lib only, unless told otherwise.
  const agent = await startAgent(environment)
  onTestFinished(() => agent.stop())
  const { socket } = agent
  await run('ssh-add', ['-s', MODULE], {
    env: { ...environment, SSH_AUTH_SOCK: socket, SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: 'force' },
  })
  for (const key of [keys.p256, keys.rsa]) {
    const signer = await agentSigner(socket, key.blob)
    const certificate = await signCertificate(signer, await userCertificate(keys.p384, keys.p521))
    expect(
      checkCertificate(certificate, {
        type: 'user',
        now: NOON,
        isAuthority: blob => blob.equals(key.blob),
        isRevoked: () => false,
      }),
    ).toEqual({ ok: true })
  }
})
