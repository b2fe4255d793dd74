import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'
import { recordsOf, recordTold } from '../support/told.ts'
import { operationIn, overSsh, post } from '../support/wire.ts'

// A window for some refs: what its holder may read, and what is tried to read more. The host gives out any object whose
// id it is told, and wants by name, as hosts do.

let stand: Stand
/** With pack reuse switched on. */
let reusing: StartedProxy
let bare: string
let refs: Record<string, string>
let blob: string

beforeAll(async () => {
  stand = await startStand()
  reusing = await stand.startProxy({ reuse: { enabled: true, ttl: 60_000, bytes: 64 << 20, folder: undefined } })
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), {
    branches: ['secret', 'release/1'],
    tags: ['v1'],
    config: { 'uploadpack.allowRefInWant': 'true' },
  })
  refs = await refsOf(bare)
  blob = await gitOk(['rev-parse', 'main:README'], { cwd: bare })
})
afterAll(() => stand?.close())
beforeEach(async () => {
  for (const { id } of await stand.store.live('alice')) {
    await stand.store.revoke({ principal: 'alice', grant: id, reason: 'the next story begins' })
  }
})

const v2 = (command: string, ...args: string[]) =>
  Buffer.concat([line(`command=${command}`), line('object-format=sha1'), DELIM, ...args.map(line), FLUSH])
const v0 = (id: string, capabilities = '') =>
  Buffer.concat([line(`want ${id} side-band-64k${capabilities}`), FLUSH, line('done')])

describe.each([
  ['http', 'web'],
  ['ssh', 'local'],
] as const)('over %s, of a host behind %s', (transport, upstream) => {
  const repository = `${upstream}/acme/app`
  const ask = (body: Buffer, protocol: 0 | 1 | 2 = 2, proxy = stand.proxies[0]!) =>
    transport === 'http'
      ? post(stand, 'git-upload-pack', repository, { body, protocol }, proxy)
      : overSsh(stand, `git-upload-pack '/${repository}.git'`, { body, protocol }, proxy)
  const open = (...names: string[]) => stand.grant({ repository, actions: ['fetch'], refs: names })

  test.each([0, 1, 2] as const)('protocol %i lists and clones what the window names, and no more', async version => {
    await open('main', 'release/*')
    const { url, env } = await stand.remote(transport, repository)
    const speak = ['-c', `protocol.version=${version}`]
    const listed = await gitOk([...speak, 'ls-remote', '--symref', url], { env })
    expect(listed.split('\n').map(each => each.split('\t')[1])).toEqual([
      ...['HEAD', 'HEAD', 'refs/heads/main', 'refs/heads/release/1'],
    ])
    const work = join(temporaryFolder('clone'), 'work')
    await gitOk([...speak, 'clone', '-q', url, work], { env })
    expect(await gitOk(['for-each-ref', '--format=%(refname)'], { cwd: work })).not.toMatch(/secret|tags/)
    // The secret branch's commit did not come, nor the tag on main, which a host adds where it is asked to.
    expect((await git(['cat-file', '-e', refs['refs/heads/secret']!], { cwd: work })).status).not.toBe(0)
    expect((await git(['cat-file', '-e', refs['refs/tags/v1']!], { cwd: work })).status).not.toBe(0)
    await gitOk([...speak, 'fetch', '-q', 'origin', 'release/1'], { cwd: work, env })
  })

  test('protocol 2: what leads to another ref is refused, and how to ask is told', async () => {
    await open('main')
    const { 'refs/heads/main': main, 'refs/heads/secret': secret, 'refs/tags/v1': tag } = refs
    for (const [what, why] of [
      // The tip of another branch, a blob, and what no branch holds.
      [[`want ${secret}`], `${secret} is at none of the refs`],
      [[`want ${blob}`], `${blob} is at none of the refs`],
      [[`want ${main}`, `want ${tag}`], `${tag} is at none of the refs`],
      // What another branch does not hold, which tells where it is.
      [[`want ${main}`, 'deepen-not secret'], 'secret is not among the refs'],
      [[`want ${main}`, 'filter sparse:oid=secret:on-0'], 'clone without --filter'],
      // A host goes on from the parents of what it is told to be shallow.
      [[`want ${main}`, `shallow ${secret}`, 'deepen 2147483647'], '--unshallow is not passed on'],
    ] as const) {
      const { text } = await ask(v2('fetch', ...what, 'done'))
      expect(text).toContain(why)
      expect(text).not.toContain('packfile')
      expect(text).toContain(`ask with: git access request ${repository} --fetch`)
    }
  })

  test('the name that was refused stands in the line to ask with', async () => {
    await open('main')
    const { text } = await ask(v2('fetch', 'want-ref refs/heads/secret', 'done'))
    expect(text).toContain(`git access request ${repository} --fetch --ref secret --for 1h`)
    expect(await recordTold(stand, text)).toMatchObject({ kind: 'operation.refused', code: 'ref-refused' })
  })

  test('protocol 0: an id is refused though the host would give it', async () => {
    await open('main')
    const { text } = await ask(v0(refs['refs/heads/secret']!), 0)
    expect(text).not.toContain('PACK')
    expect(text).toContain('is at none of the refs your window lets you read')
    const records = await recordsOf(stand, operationIn(text))
    expect(records.map(({ kind }) => kind)).toEqual(['operation.start', 'operation.end'])
    expect(records[1]).toMatchObject({ result: 'refused' })
    const main = refs['refs/heads/main']!
    expect((await ask(v0(main, ' include-tag'), 0)).text).toContain('tags are not sent along')
    expect((await ask(v0(main), 0)).text).toContain('PACK')
  })

  test('pack reuse gives out nothing that the window does not name', async () => {
    const secret = v2('fetch', `want ${refs['refs/heads/secret']}`, 'done')
    const whole = await open()
    expect((await ask(secret, 2, reusing)).text).toContain('packfile')
    await stand.revoke(whole)
    await open('main')
    expect((await ask(secret, 2, reusing)).text).not.toContain('packfile')
  })
})

test('over SSH, what one window has shown is not given under another once the first is over', async () => {
  const repository = 'local/acme/app'
  const first = await stand.grant({ repository, actions: ['fetch'], refs: ['secret'] })
  await stand.grant({ repository, actions: ['fetch'], refs: ['main'] })
  const { text } = await overSsh(stand, `git-upload-pack '/${repository}.git'`, {
    body: v2('ls-refs'),
    protocol: 2,
    andThen: async () => {
      await stand.revoke(first)
      return v2('fetch', `want ${refs['refs/heads/secret']}`, 'done')
    },
  })
  expect(text).toContain(`${refs['refs/heads/secret']} refs/heads/secret`)
  expect(text).toContain('is at none of the refs your window lets you read')
  expect(text).not.toContain('packfile')
})

test('git archive gives the refs of the window, named in full', async () => {
  const repository = 'local/acme/app'
  await stand.grant({ repository, actions: ['archive'], refs: ['main'] })
  const { url, env } = await stand.remote('ssh', repository)
  const archive = (...args: string[]) => git(['archive', `--remote=${url}`, ...args], { env })
  expect((await archive('--format=tar', 'refs/heads/main:')).status).toBe(0)
  expect((await archive('refs/heads/secret')).stderr).toContain('refs/heads/secret is not among the refs')
  // A tag of this name would be another tree.
  expect((await archive('main')).stderr).toContain('name one in full')
})
