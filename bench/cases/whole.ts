import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cloneRepository, gitOk, makeRepository } from '../../test/support/git.ts'
import { temporaryFolder } from '../../test/support/program.ts'
import { type Bench, type Case, compared, GIGABYTE, NAIVE, over, type Taken, timed, type Way } from '../case.ts'
import { PINNED_KEX, type Place } from '../stand.ts'
import type { Goal } from '../table.ts'

const TLS = 'drawbridge, TLS'
const GIT_MILLISECONDS_MAX = 600_000

/** One big repository cloned, by stock git. */
export const clone: Case = {
  name: 'clone',
  async run(bench) {
    const { http, ssh } = bench.stand
    await big(bench)
    bench.say('clone over HTTP')
    const overHttp = await timed(
      [
        way('direct', http.direct),
        way('nginx', http.nginx),
        way(NAIVE, http.naive),
        way('drawbridge', http.drawbridge),
        way(TLS, http.tls),
      ],
      bench,
    )
    bench.say('clone over SSH')
    const places = ssh('pinned')
    const overSsh = await timed([way('direct', places.direct), way('drawbridge', places.drawbridge)], bench)
    return {
      figures: [
        ...compared('clone over HTTP', overHttp, bench.bytes),
        ...compared(`clone over SSH (${PINNED_KEX})`, overSsh, bench.bytes),
      ],
      goals: [
        time('clone over HTTP', overHttp, 1.02),
        time('clone over SSH', overSsh, 1.05),
        cpu('HTTP', overHttp.get('drawbridge'), bench, 0.6),
        cpu('HTTPS', overHttp.get(TLS), bench, 1.2),
        cpu('SSH', overSsh.get('drawbridge'), bench, 1.5),
      ],
    }

    function way(name: string, { url, env, pid }: Place): Way {
      return {
        name,
        ...(pid !== undefined && { pid }),
        run: async () => {
          const into = join(temporaryFolder('bench-clone'), 'work')
          await gitOk(['clone', '-q', '--bare', `${url}big.git`, into], { env, timeout: GIT_MILLISECONDS_MAX })
          rmSync(into, { recursive: true, force: true })
        },
      }
    }
  },
}

/** The same repository pushed into an empty one. */
export const push: Case = {
  name: 'push',
  async run(bench) {
    const { http, ssh, folder } = bench.stand
    await big(bench)
    const work = await cloneRepository(join(folder, 'big.git'))
    const sink = join(folder, 'sink.git')
    const way = (name: string, { url, env, pid }: Place): Way => ({
      name,
      ...(pid !== undefined && { pid }),
      run: () =>
        gitOk(['push', '-q', `${url}sink.git`, 'HEAD:main'], { cwd: work, env, timeout: GIT_MILLISECONDS_MAX }),
      prepare: async () => {
        rmSync(sink, { recursive: true, force: true })
        await makeRepository(sink, { commits: 0 })
      },
    })
    bench.say('push over HTTP')
    const overHttp = await timed(
      [way('direct', http.direct), way('nginx', http.nginx), way('drawbridge', http.drawbridge)],
      bench,
    )
    bench.say('push over SSH')
    const places = ssh('pinned')
    const overSsh = await timed([way('direct', places.direct), way('drawbridge', places.drawbridge)], bench)
    return {
      figures: [
        ...compared('push over HTTP', overHttp, bench.bytes),
        ...compared(`push over SSH (${PINNED_KEX})`, overSsh, bench.bytes),
      ],
      goals: [time('push over HTTP', overHttp, 1.02), time('push over SSH', overSsh, 1.05)],
    }
  },
}

async function big({ stand, bytes, say }: Bench): Promise<void> {
  const path = join(stand.folder, 'big.git')
  if (existsSync(path)) return
  say(`making a repository of ${bytes / 1e6} MB`)
  await makeRepository(path, { bytes })
}

function time(what: string, result: ReadonlyMap<string, Taken>, most: number): Goal {
  return { what: `${what}, time over direct`, figure: over(result, 'drawbridge', 'direct'), unit: '×', most }
}

function cpu(transport: string, taken: Taken | undefined, { bytes }: Bench, most: number): Goal {
  const figure = (taken?.cpu ?? Number.NaN) / (bytes / GIGABYTE)
  return { what: `proxy CPU of a clone over ${transport}`, figure, unit: 's/GB', most }
}
