import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { OperationEnd, OperationRefused, Record } from '../../audit/record.ts'
import type { Grant } from '../../grant/grant.ts'
import { FLUSH, packet } from '../../proxy/git/pktline.ts'
import { cloneRepository, commitFile, git, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { unseen } from '../support/told.ts'
import { type Answered, type Asked, command, commandSection, overSsh, packOf, post, ZERO } from '../support/wire.ts'

// What is tried with a push, as whole paths: bytes made by hand in, a real host behind. Whatever is refused reaches no host.

let stand: Stand
let bare: string
let work: string
let main: string
let fresh: string
let pack: Buffer

const CAPS = 'report-status side-band-64k agent=hand/1'

beforeAll(async () => {
  stand = await startStand()
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { branches: ['topic'], tags: ['v1'] })
  work = await cloneRepository(bare)
  main = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
  fresh = await commitFile(work)
  pack = await packOf(work, ['HEAD', '^origin/main'])
})
afterAll(() => stand?.close())

async function closeWindows(): Promise<void> {
  for (const { id } of await stand.store.live('alice')) {
    await stand.store.revoke({ principal: 'alice', grant: id, reason: 'the next story begins' })
  }
}
beforeEach(closeWindows)

/** Records of pushes since a moment. */
async function pushesSince(count: number): Promise<Record[]> {
  return (await stand.records()).slice(count).filter(record => 'action' in record && record.action === 'push')
}

interface Attack {
  readonly body: readonly Buffer[]
  readonly grant?: Partial<Grant>
  /** What the record and the client are told. */
  readonly reason: RegExp
  readonly code?: string
  readonly segments?: number
}

const update: Asked = { old: '', new: '', ref: 'refs/heads/main' }
const forward = (): Asked => ({ ...update, old: main, new: fresh })

/** Carries the attack out over one transport and holds it to what every refused push must keep. */
async function attacked(transport: 'http' | 'ssh', attack: Attack): Promise<Answered> {
  const repository = transport === 'http' ? 'web/acme/app' : 'ssh1/acme/app'
  const grant = await stand.grant({ repository, ...attack.grant })
  const untouched = transport === 'http' ? await unseen(stand, bare) : undefined
  const before = await refsOf(bare)
  const count = (await stand.records()).length
  const sent = { body: attack.body, ...(attack.segments && { segments: attack.segments }) }
  const answer =
    transport === 'http'
      ? await post(stand, 'git-receive-pack', repository, sent)
      : await overSsh(stand, `git-receive-pack '/${repository}.git'`, sent)
  expect(answer.text).toMatch(attack.reason)
  const records = (await pushesSince(count)) as OperationRefused[]
  expect(records).toMatchObject([{ kind: 'operation.refused', reason: expect.stringMatching(attack.reason) }])
  if (attack.code) expect(records[0]!.code).toBe(attack.code)
  expect(await refsOf(bare)).toEqual(before)
  await untouched?.()
  await stand.revoke(grant)
  return answer
}

const bytes = (...parts: (string | Buffer)[]) =>
  parts.map(part => (typeof part === 'string' ? Buffer.from(part) : part))
const ALL = { refs: ['refs/heads/main'] }
const HIDDEN = () => ({ old: ZERO, new: fresh, ref: 'refs/heads/hidden' })

const attacks: [what: string, attack: () => Attack][] = [
  [
    'commands hidden in a certificate nobody asked for are not carried out beside the plain ones',
    () => ({
      grant: ALL,
      reason: /signed pushes are not passed on/,
      body: [
        command(forward(), CAPS),
        packet(Buffer.from('push-cert\0 report-status side-band-64k\n')),
        ...['certificate version 0.1\n', 'pusher x 1 +0000\n', '\n', `${ZERO} ${fresh} refs/heads/hidden\n`].map(text =>
          packet(Buffer.from(text)),
        ),
        packet(Buffer.from('push-cert-end\n')),
        FLUSH,
        pack,
      ],
    }),
  ],
  [
    'nor is a certificate in front of them, split over packets and sent byte by byte',
    () => ({
      grant: ALL,
      reason: /signed pushes are not passed on/,
      segments: 1,
      body: [
        packet(Buffer.from('push-cert\0 report-status')),
        packet(Buffer.from(`${ZERO} ${fresh} refs/heads/hid`)),
        packet(Buffer.from('den\n')),
        packet(Buffer.from('push-cert-end\n')),
        FLUSH,
      ],
    }),
  ],
  ...(['0001', '0002', ''] as const).map((end): [string, () => Attack] => [
    `a section that ends with ${end || 'the end of input'} is not understood`,
    () => ({
      grant: ALL,
      reason: /the commands end with|the push ended before its flush|an end/,
      body: bytes(command(forward(), CAPS), end),
    }),
  ]),
  [
    'a second list of commands behind the first is no pack',
    () => ({
      grant: ALL,
      reason: /not followed by a pack/,
      body: [commandSection([forward()]), commandSection([HIDDEN()]), pack],
    }),
  ],
  [
    'a decoy ref behind a second NUL is seen',
    () => ({
      grant: ALL,
      reason: /two NULs/,
      body: [
        packet(Buffer.from(`${ZERO} ${fresh} refs/heads/hidden\0 ${CAPS}\0${main} ${fresh} refs/heads/main`)),
        FLUSH,
        pack,
      ],
    }),
  ],
  ...['0003', 'fff4', 'ffff', 'zzzz', '-001', ' 12a'].map((length): [string, () => Attack] => [
    `a length of ${JSON.stringify(length)} is not taken`,
    () => ({
      grant: ALL,
      reason: /is no pkt-line length/,
      body: bytes(command(forward(), CAPS), length, 'x'.repeat(100)),
    }),
  ]),
  [
    'more commands than a push may have are given up',
    () => ({
      grant: { refs: ['refs/heads/**'] },
      reason: /more than 10000 ref updates/,
      body: [
        command({ ...HIDDEN(), ref: 'refs/heads/n' }, CAPS),
        ...Array.from({ length: 10_000 }, (_, n) => command({ ...HIDDEN(), ref: `refs/heads/n${n}` })),
        FLUSH,
        pack,
      ],
    }),
  ],
  [
    'a granted ref does not carry an ungranted one along (CVE-2025-54583)',
    () => ({
      grant: ALL,
      code: 'ref-refused',
      reason: /refs\/heads\/hidden|your window does not allow to create it/,
      body: [commandSection([forward(), HIDDEN()]), pack],
    }),
  ],
  [
    'capabilities on the second line alone are heeded, and its command is judged like the first',
    () => ({
      grant: ALL,
      code: 'ref-refused',
      reason: /your window does not allow to create it/,
      body: [command(forward()), command(HIDDEN(), CAPS), FLUSH, pack],
    }),
  ],
  [
    'ids and lengths in upper case are the same ids',
    () => ({
      grant: { refs: ['refs/heads/other'] },
      code: 'ref-refused',
      reason: /your window does not allow to update it/,
      body: [
        Buffer.from(
          command({ ...forward(), old: main.toUpperCase(), new: fresh.toUpperCase() }, CAPS)
            .toString('latin1')
            .replace(/^..../, digits => digits.toUpperCase()),
          'latin1',
        ),
        FLUSH,
        pack,
      ],
    }),
  ],
  ...(
    [
      ['create', HIDDEN, ['update', 'force', 'delete', 'tag'], /create it/],
      [
        'delete',
        () => ({ old: main, new: ZERO, ref: 'refs/heads/main' }),
        ['create', 'update', 'force', 'tag'],
        /delete it/,
      ],
      ['update', forward, ['create', 'delete', 'tag'], /update it/],
      [
        'tag',
        () => ({ old: ZERO, new: fresh, ref: 'refs/tags/v9' }),
        ['create', 'update', 'force', 'delete'],
        /create it/,
      ],
      [
        'tag move',
        () => ({ old: main, new: fresh, ref: 'refs/tags/v1' }),
        ['create', 'update', 'delete', 'tag'],
        /update it/,
      ],
    ] as const
  ).map(([what, asked, actions, reason]): [string, () => Attack] => [
    `a window for ${actions.join(', ')} is none for a ${what}`,
    () => ({ grant: { actions: [...actions] }, code: 'ref-refused', reason, body: [commandSection([asked()]), pack] }),
  ]),
  ...[
    'refs/for/main',
    'refs/pull/1/head',
    'refs/merge-requests/1/head',
    'refs/changes/01/1/1',
    'refs/notes/commits',
    'refs/meta/config',
    'refs/keep-around/x',
  ].map((ref): [string, () => Attack] => [
    `${ref} is not reached by a window that does not spell it out`,
    () => ({
      grant: { refs: ['refs/**', '**'] },
      code: 'ref-refused',
      reason: /your window does not allow to create it/,
      body: [commandSection([{ ...HIDDEN(), ref }]), pack],
    }),
  ]),
  [
    'refs/replace is never written, even by a window that names it',
    () => ({
      grant: { refs: ['refs/replace/**'] },
      code: 'ref-refused',
      reason: /replacements are never pushed/,
      body: [commandSection([{ ...HIDDEN(), ref: `refs/replace/${main}` }]), pack],
    }),
  ],
  ...[
    'refs/heads/release/../main',
    'refs/heads/releaseX',
    'refs/heads/release',
    'refs/heads/release/a/b',
    'refs/heads/Release/1',
  ].map((ref): [string, () => Attack] => [
    `release/* is not ${ref}`,
    () => ({
      grant: { refs: ['release/*'] },
      code: 'ref-refused',
      reason: /your window does not allow|a ref name has no \.\./,
      body: [commandSection([{ ...HIDDEN(), ref }]), pack],
    }),
  ]),
  [
    'a tag called main is not the branch',
    () => ({
      grant: { refs: ['main'] },
      code: 'ref-refused',
      reason: /your window does not allow/,
      body: [commandSection([{ ...HIDDEN(), ref: 'refs/tags/main' }]), pack],
    }),
  ],
  [
    'a ref without refs/ in front of it is no branch',
    () => ({
      grant: {},
      code: 'ref-refused',
      reason: /a ref name begins with refs/,
      body: [commandSection([{ ...forward(), ref: 'main' }]), pack],
    }),
  ],
  ...(
    [
      ['a line end', 'a\rb'],
      ['a NUL', 'a\0b'],
      ['4 KiB', 'x'.repeat(4096)],
    ] as const
  ).map(([what, option]): [string, () => Attack] => [
    `a push option with ${what} in it goes nowhere (CVE-2026-3854)`,
    () => ({
      grant: ALL,
      code: 'protocol',
      reason: /a push option/,
      body: [commandSection([forward()], `${CAPS} push-options`), packet(Buffer.from(option)), FLUSH, pack],
    }),
  ]),
  [
    'a thousand push options are too many',
    () => ({
      grant: ALL,
      code: 'protocol',
      reason: /more than 100 push options/,
      body: [
        commandSection([forward()], `${CAPS} push-options`),
        ...Array.from({ length: 1_000 }, () => packet(Buffer.from('x'))),
        FLUSH,
        pack,
      ],
    }),
  ],
  [
    'push options that were not announced are no pack',
    () => ({
      grant: ALL,
      reason: /not followed by a pack/,
      body: [commandSection([forward()]), packet(Buffer.from('ci.skip')), FLUSH, pack],
    }),
  ],
  ['an empty body is no push', () => ({ reason: /the push has no commands/, body: [Buffer.alloc(0)] })],
  [
    'push options that were announced and are absent leave the push without its end',
    () => ({
      grant: ALL,
      reason: /pkt-line length/,
      body: [commandSection([forward()], `${CAPS} push-options`), pack],
    }),
  ],
]

for (const transport of ['http', 'ssh'] as const) {
  describe(`over ${transport}`, () => {
    test.each(attacks)('%s', async (_what, attack) => {
      await attacked(transport, attack())
    })
  })
}

/** A repository of its own for stories that move refs, and a clone of it. */
async function fixture(name: string, config: { [key: string]: string } = {}, objectFormat: 'sha1' | 'sha256' = 'sha1') {
  const own = await makeRepository(join(stand.folder, 'acme', `${name}.git`), {
    branches: ['topic'],
    config,
    objectFormat,
  })
  return { own, clone: await cloneRepository(own), repository: `local/acme/${name}` }
}

/** The last push of a repository, by its end record. */
async function lastPush(repository: string): Promise<OperationEnd> {
  const ends = (await stand.records()).filter(
    (record): record is OperationEnd =>
      record.kind === 'operation.end' && record.repository === repository && record.action === 'push',
  )
  return ends.at(-1)!
}

describe('under a window that only allows to move forward', () => {
  const transports = ['http', 'ssh'] as const

  test.each(transports)('over %s a branch moves forward, by commits of its own and by a merge', async transport => {
    const { own, clone, repository } = await fixture(`ff-${transport}`)
    await stand.grant({ repository, actions: ['fetch', 'update'] })
    const { url, env } = await stand.remote(transport, repository)
    await commitFile(clone)
    const id = await commitFile(clone)
    await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    expect((await refsOf(own))['refs/heads/main']).toBe(id)
    expect(await lastPush(repository)).toMatchObject({
      result: 'ok',
      objects: 6,
      updates: [{ ref: 'refs/heads/main', action: 'update', result: 'ok' }],
    })

    await gitOk(['merge', '-q', '--no-ff', '-m', 'merge', 'origin/topic'], { cwd: clone })
    await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    // To where another branch already stands: the pack is empty, and the host knows the way.
    await gitOk(['push', '-q', url, 'HEAD:topic'], { cwd: clone, env })
    const refs = await refsOf(own)
    expect(refs['refs/heads/topic']).toBe(refs['refs/heads/main'])
  })

  test.each(transports)('over %s none is moved by force, neither by new commits nor to older ones', async transport => {
    const { own, clone, repository } = await fixture(`force-${transport}`)
    await stand.grant({ repository, actions: ['fetch', 'update'] })
    const { url, env } = await stand.remote(transport, repository)
    const before = await refsOf(own)
    const moves = [
      '+HEAD:refs/heads/main',
      '+HEAD~1:refs/heads/main',
      '+origin/topic~1:refs/heads/topic',
      '+HEAD~2:refs/heads/topic',
    ]
    await gitOk(['commit', '-q', '--amend', '-m', 'amended'], { cwd: clone })
    for (const move of moves) {
      const { status, stderr } = await git(['push', url, move], { cwd: clone, env })
      expect(status).toBe(1)
      expect(stderr).toMatch(
        /! \[remote rejected\] .* would be moved by force, and your window allows only to move it forward\)/,
      )
      expect(await lastPush(repository)).toMatchObject({ result: 'refused' })
      expect(await refsOf(own)).toEqual(before)
    }
  })

  test('a branch that goes forward does not take one along that would be forced', async () => {
    const { own, clone, repository } = await fixture('both')
    await stand.grant({ repository, actions: ['fetch', 'update'] })
    const { url, env } = await stand.remote('http', repository)
    const before = await refsOf(own)
    await commitFile(clone)
    const { status } = await git(['push', url, 'HEAD:main', '+HEAD:topic'], { cwd: clone, env })
    expect(status).toBe(1)
    expect(await refsOf(own)).toEqual(before)
  })

  test('a host that cannot leave out trees is asked all the same', async () => {
    const { own, clone, repository } = await fixture('nofilter', { 'uploadpack.allowFilter': 'false' })
    await stand.grant({ repository: '**', actions: ['fetch', 'update'] })
    const { url, env } = await stand.remote('http', repository.replace('local/', 'web/'))
    const id = await commitFile(clone)
    await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    expect((await refsOf(own))['refs/heads/main']).toBe(id)
    await gitOk(['commit', '-q', '--amend', '-m', 'amended'], { cwd: clone })
    expect((await git(['push', url, '+HEAD:main'], { cwd: clone, env })).status).toBe(1)
    expect((await refsOf(own))['refs/heads/main']).toBe(id)
  })

  test('a pack that leans on objects it does not bring proves nothing', async () => {
    const { own, clone, repository } = await fixture('thin')
    await stand.grant({ repository, actions: ['fetch', 'update'] })
    const text = Array.from({ length: 2_000 }, (_, n) => `line ${n}\n`).join('')
    const { url, env } = await stand.remote('http', repository)
    await commitFile(clone, 'big', text)
    await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    const old = await gitOk(['rev-parse', 'HEAD'], { cwd: clone })
    const now = await commitFile(clone, 'big', `${text}one more\n`)
    const thin = await packOf(clone, ['HEAD', `^${old}`], ['--thin'])
    const sent = { body: [commandSection([{ old, new: now, ref: 'refs/heads/main' }]), thin] }
    const { text: told } = await post(stand, 'git-receive-pack', repository, sent)
    expect(told).toContain('use --no-thin')
    expect((await refsOf(own))['refs/heads/main']).toBe(old)
    // Stock git heeds what the gate announced, and never comes to this.
    await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    expect((await refsOf(own))['refs/heads/main']).toBe(now)
  })

  test('a symbolic ref does not lead to a branch outside the window', async () => {
    const { own, clone, repository } = await fixture('symbolic')
    await gitOk(['symbolic-ref', 'refs/heads/alias', 'refs/heads/main'], { cwd: own })
    await stand.grant({ repository, refs: ['alias', 'topic'] })
    const { url, env } = await stand.remote('http', repository)
    const before = await refsOf(own)
    await commitFile(clone)
    const { status, stderr } = await git(['push', url, '+HEAD:refs/heads/alias'], { cwd: clone, env })
    expect(status).toBe(1)
    expect(stderr).toContain('refs/heads/alias is a symbolic ref, and what it points to is not in your window')
    expect(await refsOf(own)).toEqual(before)
    // With its target in the window it is a name like any other.
    await closeWindows()
    await stand.grant({ repository, refs: ['alias', 'main'] })
    await gitOk(['push', '-q', url, '+HEAD:refs/heads/alias'], { cwd: clone, env })
    expect((await refsOf(own))['refs/heads/main']).not.toBe(before['refs/heads/main'])
  })

  test('a sha256 repository is pushed to, and its trailer held like any other', async () => {
    const { own, clone, repository } = await fixture('sha256', {}, 'sha256')
    await stand.grant({ repository, actions: ['fetch', 'update'] })
    for (const transport of transports) {
      const { url, env } = await stand.remote(transport, repository)
      const id = await commitFile(clone)
      await gitOk(['push', '-q', url, 'HEAD:main'], { cwd: clone, env })
      expect((await refsOf(own))['refs/heads/main']).toBe(id)
    }
    await gitOk(['commit', '-q', '--amend', '-m', 'amended'], { cwd: clone })
    const { url, env } = await stand.remote('ssh', repository)
    expect((await git(['push', url, '+HEAD:main'], { cwd: clone, env })).stderr).toContain('would be moved by force')
  })
})

describe('under a window for some paths', () => {
  const PATHS = [['docs/**', '!docs/secret']]

  /** A repository of its own behind a window for its documentation, and how to push to it. */
  async function limited(transport: 'http' | 'ssh', host: string, name: string) {
    const { own, clone } = await fixture(name, { 'uploadpack.allowFilter': 'true' })
    const repository = `${host}/acme/${name}`
    await stand.grant({ repository, actions: ['fetch', 'create', 'update', 'delete'], bounds: { paths: PATHS } })
    const { url, env } = await stand.remote(transport, repository)
    const push = (...what: string[]) => git(['push', url, ...what], { cwd: clone, env })
    const refused = async (why: RegExp, ...what: string[]) => {
      const before = await refsOf(own)
      const { status, stderr } = await push(...what)
      expect(stderr).toMatch(why)
      expect(status).toBe(1)
      expect(await refsOf(own)).toEqual(before)
      return stderr
    }
    return { own, clone, repository, push, refused }
  }

  test.each([
    ['http', 'web'],
    ['ssh', 'ssh1'],
  ] as const)(
    'over %s, with a host of the same kind, a push lands when all it changes is among them',
    async (transport, host) => {
      const { own, clone, repository, push, refused } = await limited(transport, host, `paths-${transport}`)
      const docs = await commitFile(clone, 'docs/a.md')
      expect((await push('HEAD:main', 'HEAD:refs/heads/new')).status).toBe(0)
      expect(await refsOf(own)).toMatchObject({ 'refs/heads/main': docs, 'refs/heads/new': docs })
      const updates = [{ paths: PATHS }, { paths: PATHS }]
      expect(await lastPush(repository)).toMatchObject({ result: 'ok', updates })

      // Added and taken away again: the host would keep it, and so would everybody's clone.
      const secret = (await commitFile(clone, 'docs/Secret/key')).slice(0, 10)
      await gitOk(['rm', '-q', '-r', 'docs/Secret'], { cwd: clone })
      await gitOk(['commit', '-q', '-m', 'never mind'], { cwd: clone })
      const why = `your window does not allow to change docs/Secret/key \\(in ${secret}`
      const told = await refused(new RegExp(`! \\[remote rejected\\] HEAD -> main \\(${why}`), 'HEAD:main')
      const line = `git access request ${repository} --push --ref main --path docs/Secret/key --for 1h`
      expect(told).toContain(`ask with: ${line}`)
      expect(await lastPush(repository)).toMatchObject({ result: 'refused', reason: expect.stringContaining(secret) })
    },
  )

  test('each ref is judged by itself, and one window has to allow all that it changes', async () => {
    const { own, clone, repository, push, refused } = await limited('http', 'local', 'paths-refs')
    const docs = await commitFile(clone, 'docs/a.md')
    await commitFile(clone, 'src/x.ts')
    const both = await refused(/HEAD -> other \(.*src\/x\.ts/, `${docs}:main`, 'HEAD:refs/heads/other')
    expect(both).toMatch(/-> main \(refused with the others of this push\)/)
    await refused(/a deletion takes away all of them/, ':topic')

    await stand.grant({ repository, actions: ['update'], uses: 1, bounds: { paths: [['src/**']] } })
    await refused(/your window does not allow to change/, 'HEAD:main')
    // By the first window, which has as many uses as there are pushes; then by the second.
    expect((await push(`${docs}:main`)).status).toBe(0)
    await refused(/would be moved by force/, `+${docs}~1:main`)
    expect((await push('HEAD:main')).status).toBe(0)
    expect(await lastPush(repository)).toMatchObject({ result: 'ok', updates: [{ paths: [['src/**']] }] })
    const landed = await refsOf(own)
    await commitFile(clone, 'src/y.ts')
    await refused(/your window does not allow to change src\/y\.ts/, 'HEAD:main')
    expect(await refsOf(own)).toEqual(landed)
  })
})

describe('a window for one use', () => {
  test('is used up by a push that lands, not by a listing, a probe or a push that is refused', async () => {
    const { own, clone, repository } = await fixture('once')
    await stand.grant({ repository, refs: ['main'], uses: 1 })
    const { url, env } = await stand.remote('http', repository)
    await git(['push', '--dry-run', url, 'HEAD:main'], { cwd: clone, env })
    expect((await post(stand, 'git-receive-pack', repository, { body: Buffer.from('0000') })).status).toBe(200)
    expect((await git(['push', url, 'HEAD:refs/heads/other'], { cwd: clone, env })).status).toBe(1)
    const id = await commitFile(clone)
    // Larger than the post buffer, so that git asks first.
    await gitOk(['-c', 'http.postBuffer=65536', 'push', '-q', url, 'HEAD:main'], { cwd: clone, env })
    expect((await refsOf(own))['refs/heads/main']).toBe(id)
    await commitFile(clone)
    const { status, stderr } = await git(['push', url, 'HEAD:main'], { cwd: clone, env })
    expect(status).not.toBe(0)
    expect(stderr).toMatch(/no open window|used up/)
    expect((await refsOf(own))['refs/heads/main']).toBe(id)
  })

  test('lets one of two pushes that come at once land', async () => {
    const { own, clone, repository } = await fixture('race')
    await stand.grant({ repository, actions: ['create'], uses: 1 })
    const id = await commitFile(clone)
    const [http, ssh] = [await stand.remote('http', repository), await stand.remote('ssh', repository)]
    const both = await Promise.all([
      git(['push', http.url, 'HEAD:refs/heads/one'], { cwd: clone, env: http.env }),
      git(['push', ssh.url, 'HEAD:refs/heads/two'], { cwd: clone, env: ssh.env }),
    ])
    expect(both.map(({ status }) => status === 0).sort()).toEqual([false, true])
    const refs = await refsOf(own)
    expect([refs['refs/heads/one'], refs['refs/heads/two']].filter(Boolean)).toEqual([id])
  })

  // A small answer has ended before the use is counted, and must not be taken for one that was stopped.
  test.each([
    ['http', 'web'],
    ['http', 'local'],
    ['ssh', 'ssh1'],
    ['ssh', 'web'],
  ] as const)('gives one pack, and all of it: over %s from %s', async (transport, upstream) => {
    const { own } = await fixture(`onepack-${transport}-${upstream}`)
    const repository = `${upstream}/acme/onepack-${transport}-${upstream}`
    await stand.grant({ repository, actions: ['fetch'], uses: 1 })
    const { url, env } = await stand.remote(transport, repository)
    expect((await git(['ls-remote', url], { env })).status).toBe(0)
    const work = await cloneRepository(url, { env })
    expect(await gitOk(['rev-parse', 'HEAD'], { cwd: work })).toBe((await refsOf(own))['refs/heads/main'])
    const { url: again } = await stand.remote('http', repository)
    expect((await git(['ls-remote', again])).stderr).toMatch(/no open window|used up/)
  })
})

describe('a host that does not do its part', () => {
  test('breaks off in the middle: never called a success, and the record says failed', async () => {
    const { own, clone, repository } = await fixture('breaks')
    writeFileSync(join(own, 'hooks', 'pre-receive'), '#!/bin/sh\nkill -9 $PPID\n', { mode: 0o755 })
    for (const upstream of ['local', 'web', 'ssh1']) {
      const name = repository.replace('local', upstream)
      await stand.grant({ repository: name })
      const before = await refsOf(own)
      await commitFile(clone)
      for (const transport of ['http', 'ssh'] as const) {
        const { url, env } = await stand.remote(transport, name)
        const { status, stderr } = await git(['push', url, 'HEAD:main'], { cwd: clone, env })
        expect(status).toBe(1)
        expect(stderr).toMatch(/! \[remote rejected\] HEAD -> main \(.*before it had reported: fetch to see/)
        expect(await lastPush(name)).toMatchObject({ result: 'failed', updates: [{ result: 'unknown' }] })
        expect(await refsOf(own)).toEqual(before)
      }
    }
  })

  test('says no by a hook: its reason is shown and recorded', async () => {
    const { own, clone, repository } = await fixture('hook')
    writeFileSync(join(own, 'hooks', 'update'), '#!/bin/sh\necho "not on $1" >&2\nexit 1\n', { mode: 0o755 })
    await stand.grant({ repository })
    await commitFile(clone)
    const { url, env } = await stand.remote('ssh', repository)
    const { stderr } = await git(['push', url, 'HEAD:main'], { cwd: clone, env })
    expect(stderr).toContain('remote: not on refs/heads/main')
    expect(stderr).toContain('! [remote rejected] HEAD -> main (hook declined)')
    expect(await lastPush(repository)).toMatchObject({
      result: 'failed',
      updates: [{ result: 'rejected', reason: 'hook declined' }],
    })
  })

  test('a pack that is shorter than it says lands nowhere', async () => {
    const { own, repository } = await fixture('shorter')
    await stand.grant({ repository })
    const before = await refsOf(own)
    const sent = { body: [commandSection([forward()]), pack.subarray(0, -25)] }
    const { text } = await post(stand, 'git-receive-pack', repository, sent)
    expect(text).toContain('ng refs/heads/main')
    expect(await refsOf(own)).toEqual(before)
  })
})

// The bytes held back are the last of the request. Were they not the pack's own end, the host would have the whole pack, and
// move its refs, while the gate is still to decide.
describe('a whole pack with something behind it', () => {
  test.each(['http', 'ssh'] as const)(
    'over %s does not land before the gate has spoken, nor after',
    async transport => {
      const { own, clone, repository } = await fixture(`trailing-${transport}`)
      await stand.grant({ repository, actions: ['update'] })
      const before = await refsOf(own)
      await gitOk(['commit', '-q', '--amend', '-m', 'amended'], { cwd: clone })
      const forced = {
        old: before['refs/heads/main']!,
        new: await gitOk(['rev-parse', 'HEAD'], { cwd: clone }),
        ref: 'refs/heads/main',
      }
      const whole = await packOf(clone, ['HEAD', '^origin/topic'])
      const body = [commandSection([forced]), Buffer.concat([whole, Buffer.alloc(40, 'x')])]
      // Time enough for the host to have acted on what it has.
      const pause = () => new Promise<void>(resolve => setTimeout(resolve, 700))
      const { text } =
        transport === 'http'
          ? await post(stand, 'git-receive-pack', repository, { body, pause })
          : await overSsh(stand, `git-receive-pack '/${repository}.git'`, { body, pause })
      // The host may say so of what it was given before the gate says it of the whole.
      expect(text).toMatch(/the pack does not end where it says|unpack .* abnormal exit/)
      expect((await lastPush(repository)).result).not.toBe('ok')
      expect(await refsOf(own)).toEqual(before)
    },
  )
})

// CVE-2025-54584: a gate that looked for the pack by its first four letters took a commit's words for it.
test.each(['http', 'ssh'] as const)(
  'over %s a commit that says PACK, and a ref that does, are words like any other',
  async transport => {
    const { own, clone, repository } = await fixture(`word-${transport}`)
    await stand.grant({ repository, actions: ['create', 'update'] })
    const { url, env } = await stand.remote(transport, repository)
    const message = `0000PACK\n\n0032${ZERO} ${fresh} refs/heads/hidden\n0000PACK\0\0\0\x02`.replaceAll('\0', '?')
    await gitOk(['commit', '-q', '--allow-empty', '-m', message], { cwd: clone })
    const id = await commitFile(clone, 'PACK', 'PACK\0\0\0\x02\0\0\0\x01')
    await gitOk(['push', '-q', '-o', 'PACK', url, 'HEAD:main', 'HEAD:refs/heads/PACK'], { cwd: clone, env })
    const refs = await refsOf(own)
    expect([refs['refs/heads/main'], refs['refs/heads/PACK'], refs['refs/heads/hidden']]).toEqual([id, id, undefined])
    expect(await lastPush(repository)).toMatchObject({ result: 'ok', objects: 4 })
  },
)

test('what landed is recorded of each ref, with the bytes and objects of the pack', async () => {
  const { own, clone, repository } = await fixture('told')
  writeFileSync(join(own, 'hooks', 'update'), '#!/bin/sh\n[ "$1" != refs/heads/no ]\n', { mode: 0o755 })
  await stand.grant({ repository })
  await commitFile(clone)
  const { url, env } = await stand.remote('http', repository)
  await git(['push', url, 'HEAD:main', 'HEAD:refs/heads/no', ':topic', 'HEAD:refs/tags/v7'], { cwd: clone, env })
  const end = await lastPush(repository)
  expect(end).toMatchObject({ result: 'failed', objects: 3, reason: expect.stringContaining('refs/heads/no') })
  expect(end.bytesIn).toBeGreaterThan(100)
  const results = Object.fromEntries(end.updates!.map(each => [each.ref, [each.action, each.result]]))
  expect(results).toEqual({
    'refs/heads/main': ['update-or-force', 'ok'],
    'refs/heads/no': ['create', 'rejected'],
    'refs/heads/topic': ['delete', 'ok'],
    'refs/tags/v7': ['tag', 'ok'],
  })
})
