import { rmSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import postgres from 'postgres'
import type { UpstreamSettings } from '../../config/settings.ts'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { gitOk, makeRepository, refsOf } from '../../test/support/git.ts'
import { temporaryFolder } from '../../test/support/program.ts'
import { type Case, compared, over, timed, type Way } from '../case.ts'
import { startGate } from '../gate.ts'

const CLIENTS = 20
/** Commits in a push. */
const PUSH = 10
const REUSE = { enabled: true, ttl: 5_000, bytes: 1 << 30, folder: undefined }

/**
 * What a build farm does after a push: everybody clones the new state at once. Each round has a state of its own, so
 * nothing is kept from the round before.
 *
 * Whole clones have each client's own work in them, on this same machine; the answers alone are what clients elsewhere
 * would wait for.
 */
export const clones20: Case = {
  name: 'clones20',
  async run(bench) {
    const { folder, http } = bench.stand
    bench.say('making a repository with a history')
    const bare = await withHistory(join(folder, 'history.git'), bench.quick ? 200 : 600)
    const { direct } = http
    const limits = { connectTimeout: 5_000, idleTimeout: 60_000, connections: 128 }
    const upstream: UpstreamSettings = {
      name: 'real',
      url: new URL(direct.url),
      credential: { type: 'none' },
      hostKeys: [],
      ...limits,
    }
    const gate = await startGate([upstream], [{ host: '127.0.0.1', port: 0 }], { reuse: REUSE })
    const sql = postgres(gate.postgres, { max: 1, onnotice: () => {} })
    try {
      await gate.grant('real/**')
      const authorization = `Bearer ${gate.token}`
      const proxy = gate.proxies[0]!
      const url = `${proxy.http}/real/history.git`
      const env = { GIT_CONFIG_PARAMETERS: `'http.extraHeader=Authorization: ${authorization}'` }
      const prepare = () => newState(bare)
      const rounds = bench.quick ? 1 : 3
      const often = { rounds, say: bench.say }

      bench.say(`${CLIENTS} clones at once`)
      const clones = await timed(
        [
          { name: 'direct', prepare, run: () => together(() => clone(`${direct.url}history.git`, {})) },
          { name: 'drawbridge', prepare, run: () => together(() => clone(url, env)), pid: proxy.pid },
        ] satisfies Way[],
        often,
      )
      const asked = await askedOnce(sql)
      bench.say(`the answers to ${CLIENTS} clones at once`)
      const answers = await timed(
        [
          { name: 'direct', prepare, run: () => answered(bare, `${direct.url}history.git`, {}) },
          { name: 'drawbridge', prepare, run: () => answered(bare, url, { authorization }), pid: proxy.pid },
        ] satisfies Way[],
        often,
      )
      return {
        figures: [
          ...compared(`${CLIENTS} identical clones at once, pack reuse`, clones),
          ...compared(`${CLIENTS} identical clones at once, their answers alone, pack reuse`, answers),
        ],
        goals: [
          {
            what: `${CLIENTS} identical clones at once, time over direct`,
            figure: over(clones, 'drawbridge', 'direct'),
            unit: '×',
            most: 0.3,
          },
          {
            what: `${CLIENTS} identical clones at once, their answers alone, time over direct`,
            figure: over(answers, 'drawbridge', 'direct'),
            unit: '×',
            most: 0.3,
          },
          { what: `${CLIENTS} identical clones at once, times the host is asked`, figure: asked, unit: '', most: 1 },
        ],
      }
    } finally {
      await sql.end({ timeout: 1 })
      await gate.stop()
    }
  },
}

function together(run: () => Promise<unknown>): Promise<unknown> {
  return Promise.all(Array.from({ length: CLIENTS }, run))
}

async function clone(url: string, env: Record<string, string>): Promise<void> {
  const into = join(temporaryFolder('bench-clone'), 'work')
  await gitOk(['clone', '-q', '--bare', url, into], { env, timeout: 600_000 })
  rmSync(into, { recursive: true, force: true })
}

/** The request of a clone, twenty times at once, its answers read and thrown away. */
async function answered(bare: string, url: string, headers: Record<string, string>): Promise<void> {
  const wants = [...new Set(Object.values(await refsOf(bare)))].map(id => line(`want ${id}`))
  const flags = ['thin-pack', 'include-tag', 'ofs-delta'].map(line)
  const head = [line('command=fetch'), line('object-format=sha1'), DELIM]
  const body = Buffer.concat([...head, ...flags, ...wants, line('done'), FLUSH])
  await together(() => {
    const asked = request(`${url}/git-upload-pack`, {
      method: 'POST',
      agent: false,
      headers: { ...headers, 'content-type': 'application/x-git-upload-pack-request', 'git-protocol': 'version=2' },
    })
    asked.end(body)
    return new Promise<void>((resolve, reject) => {
      asked.on('error', reject).on('response', answer => {
        let last: Buffer = Buffer.alloc(0)
        answer.on('data', (chunk: Buffer) => {
          last = chunk
        })
        answer.on('error', reject).on('end', () => {
          if (last.subarray(-4).toString() === '0000') resolve()
          else reject(new Error(`${url} gave no whole answer`))
        })
      })
    })
  })
}

/** How often the host was asked for a pack, for every twenty clones that were let through. */
async function askedOnce(sql: postgres.Sql): Promise<number> {
  const [counted] = await sql<{ all: number; asked: number }[]>`
    select count(*)::int as all, count(*) filter (where body::json->>'reuse' is null)::int as asked
    from (select body from audit.inbox union all select body from audit.record) as records
    where body::json->>'kind' = 'operation.end' and body::json->>'action' = 'fetch'`
  return ((counted?.asked ?? Number.NaN) / (counted?.all ?? 1)) * CLIENTS
}

/** A commit more, so that everybody wants what nobody has asked for before. */
async function newState(bare: string): Promise<void> {
  const commit = await gitOk(['commit-tree', 'refs/heads/main^{tree}', '-p', 'refs/heads/main', '-m', 'more'], {
    cwd: bare,
  })
  await gitOk(['update-ref', 'refs/heads/main', commit], { cwd: bare })
}

/** Text that is edited here and there from commit to commit, a pack for every ten commits, as pushes leave them. */
async function withHistory(path: string, commits: number): Promise<string> {
  await makeRepository(path, { commits: 0, config: { 'fastimport.unpackLimit': '1', 'gc.auto': '0' } })
  const files = Array.from({ length: 60 }, (_, file) => Array.from({ length: 150 }, (_, n) => sentence(file * 150 + n)))
  for (let from = 0, tip = ''; from < commits; from += PUSH) {
    const parts: string[] = []
    for (let n = from; n < from + PUSH; n++) {
      const who = `Alice <alice@example.org> ${1_767_225_600 + n * 60} +0000`
      parts.push(`commit refs/heads/main\ncommitter ${who}\ndata 2\nc\n`, n === from && tip ? `from ${tip}\n` : '')
      for (let edit = 0; edit < 4; edit++) {
        const file = (n * 7 + edit * 13) % files.length
        files[file]![(n * 31 + edit) % 150] = sentence(100_000 + n * 4 + edit)
        const text = files[file]!.join('\n')
        parts.push(`M 100644 inline src/part${file % 7}/file${file}.txt\ndata ${text.length}\n${text}\n`)
      }
      parts.push('\n')
    }
    await gitOk(['fast-import', '--quiet'], { cwd: path, input: parts.join('') })
    tip = await gitOk(['rev-parse', 'refs/heads/main'], { cwd: path })
  }
  return path
}

const WORDS = 'gate window grant push fetch pack delta tree branch tag commit ledger record proof host key'.split(' ')

/** The same line for the same number, hardly like any other. */
function sentence(n: number): string {
  const words: string[] = []
  for (let x = n + 1, i = 0; i < 9; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0
    words.push(WORDS[x >>> 28]!, (x & 0xfff).toString(36))
  }
  return words.join(' ')
}
