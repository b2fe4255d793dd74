import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { cloneRepository, commitFile, git, gitOk, makeRepository } from '../../test/support/git.ts'
import { type Bench, type Case, compared, over, type Taken, timed, type Way } from '../case.ts'
import { PINNED_KEX, type Place } from '../stand.ts'
import type { Figure } from '../table.ts'
import { warm } from '../warm.ts'

/** Small commands, each a process of its own: what somebody waits for who has little to ask. */
export const lsRemote: Case = {
  name: 'ls-remote',
  async run(bench) {
    const { http, ssh } = bench.stand
    await small(bench)
    const often = { ...bench, rounds: bench.quick ? 8 : 20 }
    const way = (name: string, { url, env }: Place): Way => ({
      name,
      run: () => gitOk(['ls-remote', `${url}small.git`], { env }),
    })
    bench.say('ls-remote over HTTP')
    const overHttp = await timed(
      [way('direct', http.direct), way('nginx', http.nginx), way('drawbridge', http.drawbridge)],
      often,
    )
    bench.say('ls-remote over SSH')
    const places = ssh('pinned')
    const overSsh = await timed(
      [way('direct', places.direct), way('sshd ForceCommand', places.chain), way('drawbridge', places.drawbridge)],
      often,
    )
    return {
      figures: [
        ...compared('ls-remote over HTTP, whole command', overHttp),
        ...compared(`ls-remote over SSH, whole command (${PINNED_KEX})`, overSsh),
      ],
      goals: [
        {
          what: 'ls-remote over SSH, time over direct',
          figure: over(overSsh, 'drawbridge', 'direct'),
          unit: '×',
          most: 0.7,
        },
      ],
    }
  },
}

/** One commit pushed to a branch that is there: the ref is updated. */
export const smallPush: Case = {
  name: 'small-push',
  async run(bench) {
    const { http, ssh, folder } = bench.stand
    await small(bench)
    const work = await cloneRepository(join(folder, 'small.git'))
    const often = { ...bench, rounds: bench.quick ? 5 : 15 }
    const way = (name: string, { url, env }: Place): Way => ({
      name,
      prepare: async () => void (await commitFile(work)),
      run: () => gitOk(['push', '-q', `${url}small.git`, 'HEAD:main'], { cwd: work, env }),
    })
    bench.say('a commit pushed over HTTP')
    const overHttp = await timed([way('direct', http.direct), way('drawbridge', http.drawbridge)], often)
    bench.say('a commit pushed over SSH')
    const places = ssh('pinned')
    const overSsh = await timed([way('direct', places.direct), way('drawbridge', places.drawbridge)], often)
    return {
      figures: [
        ...compared('a commit pushed over HTTP, whole command', overHttp),
        ...compared(`a commit pushed over SSH, whole command (${PINNED_KEX})`, overSsh),
      ],
      goals: [],
    }
  },
}

/** How many whole commands get through when many ask at once. */
export const atOnce: Case = {
  name: 'at-once',
  async run(bench) {
    const { stand, quick, say } = bench
    await small(bench)
    const often = { ...bench, rounds: quick ? 3 : 12 }
    const figures: Figure[] = []
    const goals = []
    for (const count of quick ? [16] : [16, 64]) {
      const http = await together(count, stand.http.direct, stand.http.drawbridge, often)
      figures.push(...rates(`HTTP operations/s, ${count} at once`, count, http))
      for (const kex of count === 16 ? (['pinned', 'default'] as const) : (['pinned'] as const)) {
        const named = kex === 'pinned' ? PINNED_KEX : 'each its own default'
        say(`${count} at once over SSH, ${named}`)
        const { direct, drawbridge } = stand.ssh(kex)
        const result = await together(count, direct, drawbridge, often)
        figures.push(...rates(`SSH operations/s, ${count} at once (${named})`, count, result))
        if (count === 16) {
          goals.push({
            what: `SSH operations/s, 16 at once, over direct (${named})`,
            figure: over(result, 'direct', 'drawbridge'),
            unit: '×',
            least: kex === 'pinned' ? 1.5 : 3,
          })
        }
      }
    }
    return { figures, goals }
  },
}

async function together(count: number, direct: Place, drawbridge: Place, bench: Bench): Promise<Map<string, Taken>> {
  const way = (name: string, { url, env }: Place): Way => ({
    name,
    run: async () => {
      const all = await Promise.all(Array.from({ length: count }, () => git(['ls-remote', `${url}small.git`], { env })))
      const failed = all.find(({ status }) => status !== 0)
      if (failed) throw new Error(`${name}, ${count} at once: ${failed.stderr}`)
    },
  })
  return timed([way('direct', direct), way('drawbridge', drawbridge)], bench)
}

function rates(what: string, count: number, result: ReadonlyMap<string, Taken>): Figure[] {
  return [...result].map(([way, { seconds }]) => ({
    what,
    way,
    value: `${(count / seconds).toFixed(1)}/s`,
    ...(way !== 'direct' && { ratio: over(result, 'direct', way) }),
  }))
}

/** A small repository, and a gate that is warm. */
async function small(bench: Bench): Promise<void> {
  const path = join(bench.stand.folder, 'small.git')
  rmSync(path, { recursive: true, force: true })
  await makeRepository(path, { branches: ['topic'], tags: ['v1'] })
  await warm(bench)
}
