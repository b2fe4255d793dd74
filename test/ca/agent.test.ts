import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { checkCertificate } from '../../ca/check.ts'
import { fingerprint, publicKeyLine } from '../../ca/key.ts'
import { signCertificate } from '../../ca/sign.ts'
import { verifySignature } from '../../ca/signature.ts'
import { agentSigner, listIdentities } from '../../ca/signer/agent.ts'
import { type Agent, startAgent } from '../support/agent.ts'
import { algorithmOf, allKeys, keys, NOON, run, temporaryDirectory, userCertificate } from './keys.ts'

let agent: Agent
let socket: string

beforeEach(async () => {
  agent = await startAgent()
  socket = agent.socket
})
afterEach(() => agent.stop())

const data = Buffer.from('what an authority signs')

test.each(allKeys)(
  'an authority whose $name key is in a real ssh-agent issues certificates',
  async ({ name, privateKey, blob }) => {
    await agent.add(privateKey, name)
    expect((await agent.sshAdd('-l')).stdout).toContain(fingerprint(blob))
    expect(await listIdentities(socket)).toEqual([{ blob, comment: name }])
    const signer = await agentSigner(socket, blob)
    const signature = await signer.sign(data)
    expect(verifySignature(blob, data, signature)).toBe(true)
    if (name === 'rsa') expect(algorithmOf(signature)).toBe('rsa-sha2-512')
    const content = await userCertificate(keys.p256, keys.p384)
    const certificate = await signCertificate(signer, content)
    expect(
      checkCertificate(certificate, {
        type: 'user',
        principal: 'ada',
        now: NOON,
        isAuthority: key => key.equals(blob),
        isRevoked: () => false,
      }),
    ).toEqual({ ok: true })
  },
)

test('a key ssh-keygen made signs as well; a locked agent, a missing key and a missing agent say what is wrong', async () => {
  const file = join(temporaryDirectory(), 'key')
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file])
  await agent.sshAdd('-q', file)
  const [identity] = await listIdentities(socket)
  expect(publicKeyLine(identity!.blob, identity!.comment)).toBe(readFileSync(`${file}.pub`, 'utf8').trim())
  const signer = await agentSigner(socket, identity!.blob)
  await agent.sshAdd('-d', file)
  await expect(signer.sign(data)).rejects.toThrow(/would not sign/)
  await expect(agentSigner(socket, keys.rsa.blob)).rejects.toThrow(/does not hold SHA256:.*ssh-add/)
  await expect(listIdentities(`${socket}.none`)).rejects.toThrow(/no ssh-agent at/)
})

/** Stands in for an agent that misbehaves. */
async function falseAgent(answer: Buffer, size = answer.length): Promise<string> {
  const path = join(temporaryDirectory(), 'agent')
  const server = createServer(connection => {
    connection.on('error', () => {})
    connection.once('data', async () => {
      for (let at = 0; at < answer.length; at += size) {
        connection.write(answer.subarray(at, at + size))
        await sleep(1)
      }
      connection.end()
    })
  })
  await once(server.listen(path), 'listening')
  onTestFinished(() => void server.close())
  return path
}

test('an answer is read at any split, and one that is cut, endless or of another kind is an error', async () => {
  const list = Buffer.from('0000000f 0c 00000001 00000001 61 00000001 62'.replaceAll(' ', ''), 'hex')
  expect(await listIdentities(await falseAgent(list, 1))).toEqual([{ blob: Buffer.from('a'), comment: 'b' }])
  await expect(listIdentities(await falseAgent(list.subarray(0, 9)))).rejects.toThrow(/hung up/)
  await expect(listIdentities(await falseAgent(Buffer.from('ffffffff0c', 'hex')))).rejects.toThrow(/an answer of/)
  await expect(listIdentities(await falseAgent(Buffer.from('000000010e', 'hex')))).rejects.toThrow(/answer 14/)
  await expect(listIdentities(await falseAgent(Buffer.from('000000050cffffffff', 'hex')))).rejects.toThrow(/at most/)
})
