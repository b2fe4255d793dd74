import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { OperationRefused } from '../../audit/record.ts'
import { DELIM, FLUSH, line } from '../../proxy/git/pktline.ts'
import { git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { recordTold, unseen } from '../support/told.ts'
import { get, overSsh, post } from '../support/wire.ts'

// Ways to read around the gate, tried by hand against real hosts.

let stand: Stand
let bare: string
let main: string

beforeAll(async () => {
  stand = await startStand()
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), {
    branches: ['topic'],
    config: {
      'transfer.advertiseObjectInfo': 'true',
      'uploadpack.allowRefInWant': 'true',
      'uploadpack.blobPackfileUri': `${'1'.repeat(40)} ${'2'.repeat(40)} https://elsewhere.example/pack`,
      'transfer.hideRefs': 'refs/hidden',
    },
  })
  main = (await refsOf(bare))['refs/heads/main']!
  await gitOk(['update-ref', 'refs/hidden/secret', main], { cwd: bare })
})
afterAll(() => stand?.close())
beforeEach(async () => {
  for (const { id } of await stand.store.live('alice')) {
    await stand.store.revoke({ principal: 'alice', grant: id, reason: 'the next story begins' })
  }
})

const v2 = (command: string, ...args: string[]) =>
  Buffer.concat([line(`command=${command}`), line('object-format=sha1'), DELIM, ...args.map(line), FLUSH])

describe.each([
  ['http', 'web'],
  ['ssh', 'local'],
] as const)('over %s', (transport, upstream) => {
  const repository = `${upstream}/acme/app`
  const ask = (body: Buffer, protocol: 0 | 1 | 2 = 2) =>
    transport === 'http'
      ? post(stand, 'git-upload-pack', repository, { body, protocol })
      : overSsh(stand, `git-upload-pack '/${repository}.git'`, { body, protocol })

  test.each([
    ['object-info', v2('object-info', 'size', `oid ${'1'.repeat(40)}`)],
    ['bundle-uri', v2('bundle-uri')],
    ['a command nobody knows', v2('frobnicate')],
    ['packfile-uris', v2('fetch', `want ${'1'.repeat(40)}`, 'packfile-uris https', 'done')],
    ['two commands in one', Buffer.concat([line('command=ls-refs'), line('command=fetch'), FLUSH])],
    ['a want that is no object id', v2('fetch', 'want --upload-pack=x', 'done')],
  ])('%s is not passed on', async (_what, body) => {
    await stand.grant({ repository })
    const untouched = await unseen(stand, bare)
    const { text } = await ask(body)
    expect(text).toContain('ERR ')
    expect(await recordTold(stand, text)).toMatchObject({ kind: 'operation.refused', code: 'protocol' })
    if (transport === 'http') await untouched()
  })

  test('what leads elsewhere is not even offered', async () => {
    await stand.grant({ repository })
    const { url, env } = await stand.remote(transport, repository)
    const traced = await git(['-c', 'protocol.version=2', 'ls-remote', url], { env: { ...env, GIT_TRACE_PACKET: '1' } })
    expect(traced.status).toBe(0)
    expect(traced.stderr).toMatch(/< fetch=.*ref-in-want/)
    expect(traced.stderr).not.toMatch(/< (?:object-info|bundle-uri|promisor-remote)|packfile-uris/)
  })

  test('a hidden ref is not wanted by its name either', async () => {
    await stand.grant({ repository })
    const { text } = await ask(v2('fetch', 'want-ref refs/hidden/secret', 'done'))
    expect(text).toMatch(/unknown ref|ERR/)
    expect(text).not.toContain('packfile')
  })

  test.each([0, 1, 2] as const)('a client of protocol %i finds the same door shut', async version => {
    const { url, env } = await stand.remote(transport, repository)
    const clone = ['-c', `protocol.version=${version}`, 'clone', '-q', url, join(temporaryFolder('clone'), 'work')]
    const untouched = await unseen(stand, bare)
    const shut = await git(clone, { env })
    expect(shut.stderr).toContain(`remote error: no open window for you on ${repository}`)
    await untouched()
    await stand.grant({ repository, actions: ['fetch'] })
    expect((await git(clone, { env })).status).toBe(0)
  })

  test('a protocol 0 request without its advertisement is asked of the gate like any other', async () => {
    const body = Buffer.concat([line(`want ${main} side-band-64k`), FLUSH, line('done')])
    const count = (await stand.records()).length
    const { text } = await ask(body, 0)
    expect(text).not.toContain('PACK')
    const refused = (await stand.records()).slice(count) as OperationRefused[]
    expect(refused.map(({ code }) => code)).toEqual(['no-grant'])
  })
})

test('the second request of a clone is refused once the window was closed, whatever the first was told', async () => {
  const repository = 'web/acme/app'
  const grant = await stand.grant({ repository })
  const listed = await post(stand, 'git-upload-pack', repository, { body: v2('ls-refs'), protocol: 2 })
  expect(listed.text).toContain(main)
  await stand.revoke(grant)
  const untouched = await unseen(stand, bare)
  const { text } = await post(stand, 'git-upload-pack', repository, {
    body: v2('fetch', `want ${main}`, 'done'),
    protocol: 2,
  })
  expect(text).toContain(`ERR no open window for you on ${repository}`)
  expect(await recordTold(stand, text)).toMatchObject({ action: 'fetch', code: 'no-grant' })
  await untouched()
})

test('the same on one SSH connection: a command after the window was closed is refused', async () => {
  const repository = 'local/acme/app'
  const grant = await stand.grant({ repository })
  const { text } = await overSsh(stand, `git-upload-pack '/${repository}.git'`, {
    body: v2('ls-refs'),
    protocol: 2,
    andThen: async () => {
      await stand.revoke(grant)
      return v2('fetch', `want ${main}`, 'done')
    },
  })
  expect(text).toContain(main)
  expect(text).not.toContain('PACK')
  expect(text).toContain('no open window')
})

describe('dumb HTTP', () => {
  test.each(['HEAD', 'objects/info/packs', 'objects/aa/bbbb', 'info/refs', 'refs/heads/main', 'config', 'packed-refs'])(
    '%s is not served, and the host is not asked',
    async path => {
      await stand.grant({ repository: '**' })
      const untouched = await unseen(stand, bare)
      const { status, text } = await get(stand, `/web/acme/app.git/${path}`)
      expect(status).toBe(403)
      expect(text).toContain('the dumb HTTP protocol is not offered here')
      await untouched()
    },
  )
})

describe('git archive --remote', () => {
  test.each(['local', 'ssh1'])('from %s needs its own action', async upstream => {
    const repository = `${upstream}/acme/app`
    const { url, env } = await stand.remote('ssh', repository)
    const archive = () => git(['archive', `--remote=${url}`, 'main'], { env })
    const grant = await stand.grant({ repository, actions: ['fetch', 'create', 'update', 'force', 'delete', 'tag'] })
    const untouched = await unseen(stand, bare)
    const { status, stderr } = await archive()
    expect(status).not.toBe(0)
    expect(stderr).toContain(`no open window for you on ${repository}`)
    expect(stderr).toContain(`git access request ${repository} --archive`)
    expect(await recordTold(stand, stderr)).toMatchObject({ action: 'archive', code: 'no-grant' })
    await untouched()
    await stand.revoke(grant)
    await stand.grant({ repository, actions: ['archive'] })
    expect((await archive()).status).toBe(0)
    // And it opens nothing else.
    expect((await git(['ls-remote', url], { env })).stderr).toContain('no open window')
  })
})
