import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import type { LiveGrant } from '../../grant/grant.ts'
import { push } from '../../proxy/push.ts'
import { localUpstream } from '../../proxy/upstream/local.ts'
import { cloneRepository, commitFile, gitOk, makeRepository } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { commandSection, packOf } from '../support/wire.ts'
import { client, gateOf, granted, live } from './attempt.ts'
import { folderUrl, upstreamSettings } from './http/front.ts'

const folder = temporaryFolder('push')
const connect = localUpstream(upstreamSettings(folderUrl(folder)))

const force = live({ id: 'force', actions: ['force'] })
const forward = live({ id: 'forward', actions: ['update'] })

/** Rewrites the one branch of a repository under some windows, of which `last` are left for the last question. */
async function rewritten(name: string, first: readonly LiveGrant[], last: readonly LiveGrant[]) {
  const bare = await makeRepository(join(folder, `${name}.git`))
  const work = await cloneRepository(bare)
  const old = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
  await gitOk(['checkout', '-q', '--orphan', 'other'], { cwd: work })
  const tip = await commitFile(work, 'rewritten')
  const request = new PassThrough()
  request.end(
    Buffer.concat([
      commandSection([{ old, new: tip, ref: 'refs/heads/main' }]),
      await packOf(work, ['HEAD', `^${old}`]),
    ]),
  )
  const asked = [first]
  // Nobody else asks: at the beginning, and before the last bytes go.
  const { gate, records } = gateOf({ ask: async () => granted(...(asked.shift() ?? last)), sweepEvery: 60_000 })
  const response = new PassThrough()
  const whose = client({ repository: `local/${name}`, service: 'receive-pack', request, response })
  const said = buffer(response)
  await push(whose, { gate, hostOf: () => connect, state: folder, proofBytes: 1 << 20, commands: 10 })
  response.end()
  const now = await gitOk(['rev-parse', 'main'], { cwd: bare })
  await gate.close(0)
  return { said: (await said).toString('latin1'), landed: now === tip, untouched: now === old, records }
}

test('a branch is rewritten under a window to force', async () => {
  const { landed, records } = await rewritten('forced', [force, forward], [force, forward])
  expect(landed).toBe(true)
  expect(records.at(-1)).toMatchObject({ kind: 'operation.end', result: 'ok' })
})

test('not when that window is revoked between the verdict on the push and its last bytes, and one to move forward remains', async () => {
  const { untouched, said, records } = await rewritten('revoked', [force, forward], [forward])
  expect(said).toContain('your windows changed while it was under way; push again')
  expect(untouched).toBe(true)
  expect(records.at(-1)).toMatchObject({ kind: 'operation.end', result: 'refused' })
})
