import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { OperationEnd } from '../../audit/record.ts'
import { commitFile, git, gitOk, makeRepository, noise, refsOf } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'

// A window for so many bytes: who takes more is cut in the middle of it.

let stand: Stand
let bare: string

beforeAll(async () => {
  stand = await startStand()
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { bytes: 3 << 20 })
})
afterAll(() => stand?.close())

const ends = async () => (await stand.records()).filter(({ kind }) => kind === 'operation.end') as OperationEnd[]

test.each([
  ['http', 'web'],
  ['ssh', 'local'],
] as const)(
  'a clone over %s that is larger than the window is cut, and the window is over',
  async (transport, upstream) => {
    const repository = `${upstream}/acme/app`
    await stand.grant({ repository, actions: ['fetch'], bounds: { bytes: 1 << 20 } })
    const { url, env } = await stand.remote(transport, repository)
    const cut = await git(['clone', '-q', url, join(temporaryFolder('clone'), 'work')], { env })
    expect(cut.status).not.toBe(0)
    expect(cut.stderr).toContain('the 1,048,576 bytes of your window are used up')
    const end = (await ends()).at(-1)
    expect(end).toMatchObject({ result: 'cut', reason: 'the 1,048,576 bytes of your window are used up' })
    expect(end?.bytesOut).toBeLessThan(1.5 * 2 ** 20)
    await until(async () => (await git(['ls-remote', url], { env })).stderr.includes('no open window'), 'the end of it')
  },
)

test('a push that is larger than the window does not land', async () => {
  const repository = 'web/acme/app'
  const whole = await stand.grant({ repository })
  const { url } = await stand.remote('http', repository)
  const work = join(temporaryFolder('clone'), 'work')
  await gitOk(['clone', '-q', url, work])
  await stand.revoke(whole)
  const before = await refsOf(bare)
  await commitFile(work, 'large', noise(2 << 20, 7))
  await stand.grant({ repository, bounds: { bytes: 1 << 20 } })
  const pushed = await git(['push', 'origin', 'main'], { cwd: work })
  expect(pushed.stderr).toContain('bytes of your window are used up')
  expect(await refsOf(bare)).toEqual(before)
})
