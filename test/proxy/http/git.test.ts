import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectorFor } from '../../../proxy/upstream/connect.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, noise, refsOf } from '../../support/git.ts'
import { type HttpBackend, startHttpBackend } from '../../support/http-backend.ts'
import { temporaryFolder } from '../../support/program.ts'
import { type FrontUnderTest, folderUrl, passThrough, startFront, TOKEN, upstreamSettings } from './front.ts'

describe.each(['file', 'http'] as const)('stock git over HTTP in front of a %s: upstream', kind => {
  let front: FrontUnderTest
  let backend: HttpBackend | undefined
  let repository: string
  let url: string

  beforeAll(async () => {
    if (kind === 'http') backend = await startHttpBackend({ basic: 'bot:s3cret' })
    const folder = backend?.folder ?? temporaryFolder('local')
    repository = await makeRepository(join(folder, 'team/app.git'), {
      commits: 40,
      branches: ['dev', 'release/1'],
      tags: ['v1'],
      bytes: 300_000,
    })
    const settings = backend
      ? upstreamSettings(backend.url, { type: 'basic', username: 'bot', password: 's3cret' })
      : upstreamSettings(folderUrl(folder))
    front = await startFront(passThrough(connectorFor(settings)))
    url = `${front.url.replace('//', `//x:${TOKEN}@`)}/acme/team/app.git`
  })
  afterAll(async () => {
    await front.close(0)
    await backend?.stop()
  })

  test.each([0, 1, 2])('clone, fetch and shallow clone work with protocol version %i', async version => {
    const env = { GIT_CONFIG_PARAMETERS: `'protocol.version=${version}'` }
    const work = await cloneRepository(url, { env })
    expect(await gitOk(['rev-parse', 'HEAD'], { cwd: work })).toBe((await refsOf(repository))['refs/heads/main'])
    await gitOk(['push', '-q', 'origin', `HEAD~1:refs/heads/fetched-${version}`], { cwd: work, env })
    await gitOk(['fetch', '-q', 'origin'], { cwd: work, env })
    await gitOk(['rev-parse', `origin/fetched-${version}`], { cwd: work })
    const shallow = join(temporaryFolder('shallow'), 'work')
    await gitOk(['clone', '-q', '--depth=2', url, shallow], { env })
    expect(await gitOk(['rev-list', '--count', 'HEAD'], { cwd: shallow })).toBe('2')
    await gitOk(['fetch', '-q', '--unshallow'], { cwd: shallow, env })
    expect(await gitOk(['rev-list', '--count', 'HEAD'], { cwd: shallow })).toBe('40')
    expect(front.served.at(-1)?.protocol).toBe(version)
  })

  test('a partial clone fetches what it lacks when it is needed', async () => {
    const work = join(temporaryFolder('partial'), 'work')
    await gitOk(['clone', '-q', '--filter=blob:none', url, work])
    expect(await gitOk(['show', 'HEAD~3:README'], { cwd: work })).toBe('hello 37')
  })

  test('a push of many refs, tags, a force and a deletion land', async () => {
    const work = await cloneRepository(url)
    const id = await commitFile(work)
    await gitOk(['tag', 'light'], { cwd: work })
    await gitOk(['push', '-q', '--atomic', 'origin', 'HEAD:refs/heads/a', 'HEAD:refs/heads/b', 'light'], { cwd: work })
    await gitOk(['push', '-q', '--force', 'origin', 'HEAD~2:refs/heads/a', ':refs/heads/b'], { cwd: work })
    const refs = await refsOf(repository)
    expect(refs['refs/tags/light']).toBe(id)
    expect(refs['refs/heads/a']).not.toBe(id)
    expect(refs['refs/heads/b']).toBeUndefined()
  })

  test('a push beyond the post buffer probes with a flush, then comes in chunks', async () => {
    const work = await cloneRepository(url)
    const before = front.served.length
    const id = await commitFile(work, 'large', noise(2 << 20, kind.length).toString('latin1'))
    await gitOk(['push', '-q', 'origin', 'HEAD:refs/heads/large'], { cwd: work })
    expect((await refsOf(repository))['refs/heads/large']).toBe(id)
    expect(front.served.slice(before).map(({ part }) => part)).toEqual(['advertise', 'exchange', 'exchange'])
  })

  test('wants and haves that git has zipped are understood', async () => {
    // Forty wants: git zips a request over 1 KiB.
    for (let n = 0; n < 40; n++) await gitOk(['update-ref', `refs/heads/many/${n}`, `main~${n}`], { cwd: repository })
    const folder = join(temporaryFolder('zip'), 'work')
    const traced = await git(['clone', url, folder], { env: { GIT_CURL_VERBOSE: '1' } })
    expect(traced.stderr).toMatch(/content-encoding: gzip/i)
    expect(traced.status).toBe(0)
  })

  test('a repository that is not there is told as such by the upstream, not by the front', async () => {
    const { status } = await git(['ls-remote', url.replace('app.git', 'none.git')])
    expect(status).toBe(128)
    expect(front.served.at(-1)?.repository).toBe('acme/team/none')
  })
})
