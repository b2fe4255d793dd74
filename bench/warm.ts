import { join } from 'node:path'
import { gitOk, makeRepository } from '../test/support/git.ts'
import type { Bench } from './case.ts'
import { load } from './load.ts'
import type { Stand } from './stand.ts'

const AT_ONCE = 16
const SECONDS = { quick: 1, full: 10 }
const ROUNDS = { quick: 1, full: 20 }

const warmed = new WeakSet<Stand>()

/**
 * Brings the programs under test that run in a JavaScript VM to where they are for all but their first minute: until some
 * thousand requests its code is compiled again and again, and each takes twice as much CPU. Done once in a run.
 */
export async function warm({ stand, quick, say }: Bench): Promise<void> {
  if (warmed.has(stand)) return
  warmed.add(stand)
  say('warming up')
  const size = quick ? 'quick' : 'full'
  const headers = ['Git-Protocol: version=2', stand.authorization]
  for (const place of [stand.replay.naive, stand.replay.unrecorded, stand.replay.drawbridge]) {
    const url = new URL(`${place}x/1-64.git/info/refs?service=git-upload-pack`)
    await load({ url, headers, connections: AT_ONCE, seconds: SECONDS[size] })
  }
  await makeRepository(join(stand.folder, 'warm.git'))
  const { url, env } = stand.ssh('pinned').drawbridge
  for (let round = 0; round < ROUNDS[size]; round++) {
    await Promise.all(Array.from({ length: AT_ONCE }, () => gitOk(['ls-remote', `${url}warm.git`], { env })))
  }
}
