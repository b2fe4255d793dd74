import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { SETTLED_MILLISECONDS } from '../../proxy/bypass.ts'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
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

describe.each([
  ['http', 'web'],
  ['ssh', 'local'],
] as const)('over %s, of a host behind %s', (transport, upstream) => {
  test.each([0, 2] as const)(
    'protocol %i: a branch moved past the gate is one alarm, by whoever lists it',
    async version => {
      const name = `moved-${version}-${transport}`
      const host = await makeRepository(join(stand.folder, 'acme', `${name}.git`), {})
      const own = `${upstream}/acme/${name}`
      await stand.grant({ repository: own })
      const remotes = await Promise.all([stand.proxies[0]!, reusing].map(proxy => stand.remote(transport, own, proxy)))
      const [{ url, env }] = remotes as [(typeof remotes)[0]]
      const list = async () => {
        for (const each of remotes)
          await gitOk(['-c', `protocol.version=${version}`, 'ls-remote', each.url], { env: each.env })
      }
      const work = await cloneRepository(url, { env })
      // By both proxies in turn, listed in between.
      for (const each of remotes) {
        await commitFile(work)
        await gitOk(['push', '-q', each.url, 'HEAD:main', 'HEAD:refs/heads/other'], { cwd: work, env: each.env })
        await list()
      }
      await aMinutePasses(own)
      await list()

      const left = await gitOk(['rev-parse', 'main'], { cwd: host })
      const found = await gitOk(['commit-tree', '-p', left, '-m', 'past the gate', 'main^{tree}'], { cwd: host })
      await gitOk(['update-ref', 'refs/heads/main', found], { cwd: host })
      await list()
      const alarms = async () =>
        (await stand.records()).filter(each => each.kind === 'bypass.suspected' && each.repository === own)
      await until(async () => (await alarms()).length > 0, 'the alarm')

      await aMinutePasses(own)
      await gitOk(['pull', '-q', '--rebase', url, 'main'], { cwd: work, env })
      await commitFile(work)
      await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: work, env })
      await aMinutePasses(own)
      await list()
      expect(await alarms()).toMatchObject([{ ref: 'refs/heads/main', left, found, principal: 'alice' }])
    },
  )
})

/** For what is remembered of a repository's refs. */
async function aMinutePasses(repository: string): Promise<void> {
  const redis = connectRedis(stand.redis.url, () => {})
  await untilReady(redis, 5_000)
  const key = `db:tips:${repository}`
  // Not before the last push is known to have ended.
  const tips = await until(async () => {
    const all = Object.entries(await redis.hgetall(key))
    return all.length > 0 && all.every(([, value]) => value.endsWith(' -')) && all
  })
  for (const [ref, value] of tips) {
    const [since, id] = value.split(' ')
    await redis.hset(key, ref, `${Number(since) - 2 * SETTLED_MILLISECONDS} ${id} -`)
  }
  redis.disconnect()
}
