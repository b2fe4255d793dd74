import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cloneRepository, commitFile, git, gitOk, makeRepository, noise, refsOf } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { makeTls } from '../support/tls.ts'

let stand: Stand
let encrypted: StartedProxy
let sharing: StartedProxy
let certificate: string
beforeAll(async () => {
  stand = await startStand()
  const tls = await makeTls()
  certificate = tls.certificate
  const { listen } = stand.proxies[0]!.settings
  encrypted = await stand.startProxy({ listen: { ...listen, http: { host: '127.0.0.1', port: 0, tls } } })
  sharing = await stand.startProxy({ reuse: { ...stand.settings.reuse, enabled: true } })
})
afterAll(() => stand?.close())

const transports = ['http', 'https', 'ssh'] as const
const upstreams = ['web', 'ssh1', 'local'] as const
const combinations = [
  ...transports.flatMap(transport => upstreams.map(upstream => [transport, upstream, 'alone'] as const)),
  // Git stays git whether or not answers are shared.
  ['http', 'web', 'with pack reuse'],
  ['ssh', 'ssh1', 'with pack reuse'],
] as const

for (const [transport, upstream, manner] of combinations) {
  describe(`stock git over ${transport}, the repository on ${upstream}, ${manner}`, () => {
    const name = `${transport}-${upstream}-${manner.replaceAll(' ', '-')}`
    const repository = `${upstream}/acme/${name}`
    let bare: string
    let url: string
    let env: { [name: string]: string }
    let work: string

    beforeAll(async () => {
      bare = await makeRepository(join(stand.folder, 'acme', `${name}.git`), { branches: ['topic'], tags: ['v1'] })
      await stand.grant({ repository })
      const proxy = transport === 'https' ? encrypted : manner === 'alone' ? stand.proxies[0] : sharing
      const remote = await stand.remote(transport === 'https' ? 'http' : transport, repository, proxy)
      url = remote.url
      env = { ...remote.env, ...(transport === 'https' && { GIT_SSL_CAINFO: certificate }) }
      work = join(temporaryFolder('work'), 'clone')
    })

    test('clones, and says by which window', async () => {
      const { status, stderr } = await git(['clone', '-q', url, work], { env })
      expect(stderr).toMatch(/remote: drawbridge: let through by g-\w+, open for 9 min more/)
      expect(status).toBe(0)
      expect(await gitOk(['rev-parse', 'HEAD'], { cwd: work })).toBe((await refsOf(bare))['refs/heads/main'])
    })

    test('clones shallow and partial', async () => {
      const shallow = join(temporaryFolder('work'), 'shallow')
      await gitOk(['clone', '-q', '--depth', '1', url, shallow], { env })
      expect(await gitOk(['rev-list', '--count', 'HEAD'], { cwd: shallow })).toBe('1')
      await gitOk(['fetch', '-q', '--deepen', '1'], { cwd: shallow, env })
      expect(await gitOk(['rev-list', '--count', 'HEAD'], { cwd: shallow })).toBe('2')
      const partial = join(temporaryFolder('work'), 'partial')
      await gitOk(['clone', '-q', '--filter=blob:none', url, partial], { env })
      expect(await gitOk(['rev-parse', 'HEAD'], { cwd: partial })).toBe((await refsOf(bare))['refs/heads/main'])
    })

    for (const protocol of [0, 1, 2]) {
      test(`clones with protocol version ${protocol}`, async () => {
        const clone = join(temporaryFolder('work'), 'versioned')
        await gitOk(['-c', `protocol.version=${protocol}`, 'clone', '-q', url, clone], { env })
        expect(await gitOk(['rev-parse', 'HEAD'], { cwd: clone })).toBe((await refsOf(bare))['refs/heads/main'])
      })
    }

    test('pushes several refs and a tag in one go', async () => {
      const id = await commitFile(work)
      await gitOk(['tag', '-a', 'v2', '-m', 'v2'], { cwd: work })
      const { status, stderr } = await git(['push', url, 'HEAD:refs/heads/main', 'HEAD:refs/heads/new', 'v2'], {
        cwd: work,
        env,
      })
      expect(stderr).toContain('let through by')
      expect(status).toBe(0)
      const refs = await refsOf(bare)
      expect([refs['refs/heads/main'], refs['refs/heads/new']]).toEqual([id, id])
      expect(refs['refs/tags/v2']).toBeDefined()
    })

    test('fetches what others pushed', async () => {
      const other = join(temporaryFolder('work'), 'other')
      await gitOk(['clone', '-q', bare, other])
      const id = await commitFile(other)
      await gitOk(['push', '-q', bare, 'HEAD:refs/heads/main'], { cwd: other })
      await gitOk(['fetch', '-q', url, 'main'], { cwd: work, env })
      expect(await gitOk(['rev-parse', 'FETCH_HEAD'], { cwd: work })).toBe(id)
      await gitOk(['reset', '-q', '--hard', 'FETCH_HEAD'], { cwd: work })
    })

    test('pushes atomically, with push options', async () => {
      const id = await commitFile(work)
      await gitOk(['push', '-q', '--atomic', '-o', 'ci.skip', url, 'HEAD:refs/heads/main', 'HEAD:refs/heads/opt'], {
        cwd: work,
        env,
      })
      expect((await refsOf(bare))['refs/heads/opt']).toBe(id)
      const starts = (await stand.records()).filter(
        record => record.kind === 'operation.start' && record.repository === repository,
      )
      expect(starts.at(-1)).toMatchObject({ action: 'push', pushOptions: ['ci.skip'] })
    })

    test('forces and deletes', async () => {
      await gitOk(['commit', '-q', '--amend', '-m', 'amended'], { cwd: work })
      await gitOk(['push', '-q', '--force', url, 'HEAD:refs/heads/main'], { cwd: work, env })
      await gitOk(['push', '-q', url, ':refs/heads/new', ':refs/heads/opt'], { cwd: work, env })
      const refs = await refsOf(bare)
      expect(refs['refs/heads/main']).toBe(await gitOk(['rev-parse', 'HEAD'], { cwd: work }))
      expect(refs['refs/heads/new']).toBeUndefined()
    })

    test('pushes more than the post buffer, with the probe in front', async () => {
      await commitFile(work, 'big', noise(3 << 20))
      await gitOk(['push', '-q', url, 'HEAD:refs/heads/main'], { cwd: work, env })
      expect((await refsOf(bare))['refs/heads/main']).toBe(await gitOk(['rev-parse', 'HEAD'], { cwd: work }))
    })

    test('clones a submodule beside it, under a window of its own', async () => {
      const library = await makeRepository(join(stand.folder, 'acme', `${name}-library.git`))
      const tip = (await refsOf(library))['refs/heads/main']!
      const parent = await makeRepository(join(stand.folder, 'acme', `${name}-parent.git`))
      const author = await cloneRepository(parent)
      await gitOk(['update-index', '--add', '--cacheinfo', `160000,${tip},library`], { cwd: author })
      await commitFile(
        author,
        '.gitmodules',
        `[submodule "library"]\n\tpath = library\n\turl = ../${name}-library.git\n`,
      )
      await gitOk(['push', '-q', parent, 'HEAD:main'], { cwd: author })
      const clone = () => {
        const into = join(temporaryFolder('work'), 'parent')
        const from = url.replace(repository, `${repository}-parent`)
        return git(['clone', '-q', '--recurse-submodules', from, into], { env }).then(result => ({ ...result, into }))
      }
      await stand.grant({ repository: `${repository}-parent` })
      const refused = await clone()
      expect(refused.stderr).toContain(`ask with: git access request ${repository}-library --fetch --for 1h`)
      await stand.grant({ repository: `${repository}-library` })
      const { status, into, stderr } = await clone()
      expect([status, stderr]).toMatchObject([0, expect.not.stringContaining('fatal')])
      expect(await gitOk(['rev-parse', 'HEAD'], { cwd: join(into, 'library') })).toBe(tip)
    })

    test('every operation has one start and one end', async () => {
      const records = (await stand.records()).filter(
        record => 'repository' in record && record.repository === repository,
      )
      const starts = records.filter(record => record.kind === 'operation.start').map(record => record.operation)
      const ends = records.filter(record => record.kind === 'operation.end').map(record => record.operation)
      expect(starts.length).toBeGreaterThan(10)
      expect(new Set(starts).size).toBe(starts.length)
      expect([...ends].sort()).toEqual([...starts].sort())
    })

    if (transport === 'ssh' && upstream !== 'web') {
      test('archives', async () => {
        const file = join(temporaryFolder('work'), 'a.tar')
        await gitOk(['archive', `--remote=${url}`, '-o', file, 'main'], { env })
        expect(readFileSync(file).subarray(257, 262).toString()).toBe('ustar')
      })
    }
  })
}
