import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LiveGrant } from '../../grant/grant.ts'
import { readCommands } from '../../proxy/git/refupdate.ts'
import { PathFindings, Proof } from '../../proxy/proof.ts'
import { localUpstream } from '../../proxy/upstream/local.ts'
import { cloneRepository, commitFile, gitOk, makeRepository } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { commandSection, packOf } from '../support/wire.ts'
import { client, live, openSession } from './attempt.ts'
import { folderUrl, upstreamSettings } from './http/front.ts'

const folder = temporaryFolder('proof')
const connect = localUpstream(upstreamSettings(folderUrl(folder)))

let work: string
let old: string
let docs: string
let pack: Buffer
beforeAll(async () => {
  work = await cloneRepository(await makeRepository(join(folder, 'app.git')))
  old = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
  docs = await commitFile(work, 'docs/a.md')
  pack = await packOf(work, ['HEAD', '^origin/main'])
})

const proofs: Proof[] = []
afterAll(() => Promise.all(proofs.map(proof => proof.close())))

const free = live({ id: 'free', actions: ['update', 'force'] })
const limited = (...paths: string[]) => live({ id: 'limited', actions: ['update'], bounds: { paths: [paths] } })

/** A push of one commit to `docs` under some windows; and what there is to see of it. */
async function pushed(grants: readonly LiveGrant[], { proofBytes = 1 << 20 } = {}) {
  const request = new PassThrough()
  request.end(Buffer.concat([commandSection([{ old, new: docs, ref: 'refs/heads/main' }]), pack]))
  const commands = await readCommands(request, { commands: 10 })
  const whose = client({ repository: 'local/app', service: 'receive-pack' })
  const session = openSession(new PassThrough(), { repository: 'local/app', service: 'receive-pack' })
  session.grants = grants
  const findings = new PathFindings()
  const proof = new Proof(whose, session, commands, findings, { hostOf: () => connect, state: folder, proofBytes })
  proofs.push(proof)
  if (proof.reads) await proof.read(pack)
  return { proof, session, findings, update: commands.updates[0]! }
}

test('a push that stays within its window is let go, and found to', async () => {
  const window = limited('docs/**')
  const { proof, findings, update } = await pushed([window])
  expect(await proof.verdict()).toBeUndefined()
  expect(findings.stays(update, window)).toBe(true)
  expect(findings.stays(update, limited('**'))).toBe(false)
})

test('a pack that is too large to be looked into is refused, with what to do', async () => {
  const { proof } = await pushed([limited('docs/**')], { proofBytes: 100 })
  expect(await proof.verdict()).toMatchObject({
    code: 'unproved',
    sentence: expect.stringMatching(/cannot be checked against your window's paths: its pack is damaged, too large/),
    hint: expect.stringContaining('push it in smaller parts'),
  })
})

test('a window without limits that ends while the pack goes by does not leave the push to one with limits, unseen', async () => {
  const { proof, session } = await pushed([free])
  expect(proof.reads).toBe(false)
  session.grants = [limited('src/**')]
  expect(await proof.verdict()).toMatchObject({ code: 'unproved', sentence: expect.stringContaining('push again') })
})

test('nor does one that ends after the push was looked at', async () => {
  const { proof, findings, update } = await pushed([free])
  expect(await proof.verdict()).toBeUndefined()
  expect(findings.stays(update, limited('src/**'))).toBe(false)
})

test('a window to force that ends after the push was looked at does not leave it to one that only allows to move forward', async () => {
  const forward = live({ id: 'forward', actions: ['update'] })
  const { proof, session } = await pushed([free, forward])
  expect(await proof.verdict()).toBeUndefined()
  expect(await proof.stillShown()).toBeUndefined()
  session.grants = [forward]
  expect(await proof.stillShown()).toMatchObject({
    code: 'unproved',
    sentence: 'this push cannot be checked for force: your windows changed while it was under way; push again',
  })
})

test('what was shown to move forward needs no window to force any more', async () => {
  const forward = live({ id: 'forward', actions: ['update'] })
  const { proof } = await pushed([forward])
  expect(await proof.verdict()).toBeUndefined()
  expect(await proof.stillShown()).toBeUndefined()
})

test('one that is outside is refused, and its session stands until it has been told', async () => {
  const window = limited('src/**')
  const { proof, findings, update } = await pushed([window])
  const refused = await proof.verdict()
  expect(refused?.sentence).toMatch(
    /^refs\/heads\/main: your window does not allow to change docs\/a\.md \(in \w{10}\)$/,
  )
  expect(refused?.byRef?.get('refs/heads/main')).toContain('docs/a.md')
  expect(findings.stays(update, window)).toBeUndefined()
})

test('what was given up is refused', async () => {
  const { proof } = await pushed([limited('docs/**')])
  await proof.close()
  expect(await proof.verdict()).toMatchObject({ code: 'unproved' })
})
