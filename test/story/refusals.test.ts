import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Grant } from '../../grant/grant.ts'
import { cloneRepository, commitFile, git, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder, until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { recordsOf, recordTold, unseen } from '../support/told.ts'
import { operationIn } from '../support/wire.ts'

// What a git client shows for each way of being refused, at each place, over both transports.

let stand: Stand
let bare: string
let work: string
let version = 0

beforeAll(async () => {
  stand = await startStand()
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'), { branches: ['topic'] })
  work = await cloneRepository(bare)
  await commitFile(work)
})
afterAll(() => stand?.close())

beforeEach(async () => {
  for (const { id } of await stand.store.live('alice')) {
    await stand.store.revoke({ principal: 'alice', grant: id, reason: 'the next story begins' })
  }
})

const ASK = { fetch: '--fetch', push: '--push' } as const
const SERVER_TROUBLE = 'try again in some seconds'

for (const [transport, upstream] of [
  ['http', 'web'],
  ['ssh', 'ssh1'],
] as const) {
  const repository = `${upstream}/acme/app`

  /** Runs git at a repository: where it lists, and where it would push. */
  const attempt = async (place: 'fetch' | 'push', name = repository) => {
    const { url, env } = await stand.remote(transport, name)
    const args = place === 'fetch' ? ['ls-remote', url] : ['push', '--dry-run', url, 'HEAD:refs/heads/main']
    return git(args, { cwd: work, env })
  }

  describe(`git over ${transport} is told`, () => {
    for (const place of ['fetch', 'push'] as const) {
      const service = place === 'fetch' ? 'upload-pack' : 'receive-pack'
      const asking = (name: string) => `ask with: git access request ${name} ${ASK[place]} --for 1h`

      const refusedWith = async (sentence: string, hint: string, code: string) => {
        const untouched = await unseen(stand, bare)
        const { status, stderr } = await attempt(place)
        expect(status).toBe(128)
        expect(stderr).toBe(`fatal: remote error: ${sentence}\n${hint}\n(operation ${operationIn(stderr)})\n`)
        expect(await recordTold(stand, stderr)).toMatchObject({
          kind: 'operation.refused',
          principal: 'alice',
          repository,
          service,
          action: 'list',
          code,
          reason: sentence,
        })
        await untouched()
      }

      test(`at ${place}: that no window is open, and how to ask for one`, async () => {
        await stand.grant({ repository: `${upstream}/acme/other` })
        await stand.grant({ repository, principal: 'bob' })
        // A window for the other half of the work is none for this.
        await stand.grant({ repository, actions: [place === 'fetch' ? 'update' : 'fetch'] })
        await refusedWith(`no open window for you on ${repository}`, asking(repository), 'no-grant')
      })

      test(`at ${place}: the same of a repository and of an upstream that are not there`, async () => {
        const there = (await attempt(place)).stderr
        for (const name of [`${upstream}/acme/missing`, 'nowhere/acme/app']) {
          const { status, stderr } = await attempt(place, name)
          expect(status).toBe(128)
          const alike = there.replaceAll(repository, name).replace(operationIn(there), operationIn(stderr))
          expect(stderr).toBe(alike)
          expect(await recordTold(stand, stderr)).toMatchObject({ code: 'no-grant', repository: name })
        }
      })

      test(`at ${place}: that their access is locked, and why`, async () => {
        await stand.grant({ repository })
        await stand.store.lock('alice', 'left the team', Date.now() + version++)
        await refusedWith('your access is locked: left the team', 'speak to your security team', 'locked')
        await stand.store.unlock('alice', Date.now() + version++)
        expect((await attempt(place)).status).toBe(0)
      })

      test(`at ${place}: that the gate does not yet know what was revoked`, async () => {
        await stand.grant({ repository })
        const ticket = await stand.store.doubt()
        await refusedWith(
          'the gate is checking its revocations after a restart and lets nothing through',
          SERVER_TROUBLE,
          'unconfirmed',
        )
        expect(await stand.store.confirm(ticket)).toBe(true)
      })

      test(`at ${place}: that a window which has not begun is not open`, async () => {
        const now = await stand.store.now()
        await stand.grant({ repository, starts: now + 60_000, expires: now + 120_000 })
        await refusedWith(`no open window for you on ${repository}`, asking(repository), 'no-grant')
      })
    }

    test('that the repository is not there, once a window is open on it', async () => {
      const name = `${upstream}/acme/missing`
      await stand.grant({ repository: name })
      const { stderr } = await attempt('fetch', name)
      expect(stderr).toMatch(/^fatal: remote error: there is no such repository\n/)
      expect(await recordsOf(stand, operationIn(stderr))).toMatchObject([
        { kind: 'operation.start' },
        { kind: 'operation.end', result: 'failed', reason: expect.stringMatching(/^not-found: /) },
      ])
    })

    test('which refs were refused and why, and none of them moves', async () => {
      await stand.grant({ repository, actions: ['create', 'update'], refs: ['topic'] })
      const before = await refsOf(bare)
      const { url, env } = await stand.remote(transport, repository)
      const { status, stderr } = await git(
        ['push', url, 'HEAD:refs/heads/main', 'HEAD:refs/heads/fresh', '+HEAD:refs/heads/topic'],
        { cwd: work, env },
      )
      expect(status).toBe(1)
      const lines = stderr.split('\n').map(line => line.trimEnd())
      expect(lines).toContain(' ! [remote rejected] HEAD -> main (your window does not allow to update it)')
      expect(lines).toContain(' ! [remote rejected] HEAD -> fresh (your window does not allow to create it)')
      expect(lines).toContain(' ! [remote rejected] HEAD -> topic (refused with the others of this push)')
      expect(lines).toContain('remote: refs/heads/main: your window does not allow to update it')
      expect(lines).toContain(
        `remote: ask with: git access request ${repository} --push --ref main --ref fresh --for 1h`,
      )
      const told = await recordTold(stand, stderr)
      expect(told).toMatchObject({ kind: 'operation.refused', action: 'push', code: 'ref-refused' })
      const refs = 'updates' in told ? told.updates?.map(({ ref }) => ref) : undefined
      expect(refs?.toSorted()).toEqual(['refs/heads/fresh', 'refs/heads/main', 'refs/heads/topic'])
      expect(await refsOf(bare)).toEqual(before)
    })

    test('that the window was closed between the listing and the push', async () => {
      const grant = await stand.grant({ repository })
      const pushed = await pausedPush(transport, repository, () => stand.revoke(grant))
      expect(pushed.status).toBe(1)
      expect(pushed.stderr).toContain(`! [remote rejected] HEAD -> main (no open window for you on ${repository})`)
      expect(pushed.stderr).toContain(`remote: ask with: git access request ${repository} --push --for 1h`)
      expect(await recordTold(stand, pushed.stderr)).toMatchObject({ action: 'push', code: 'no-grant' })
    })

    test('what is wrong with a push option, as of any other push', async () => {
      await stand.grant({ repository })
      const before = await refsOf(bare)
      const { url, env } = await stand.remote(transport, repository)
      const { status, stderr } = await git(['push', '-o', 'a\x01b', url, 'HEAD:refs/heads/main'], { cwd: work, env })
      expect(status).toBe(1)
      expect(stderr).toContain('! [remote rejected] HEAD -> main (a push option with a control character in it)')
      expect(await recordTold(stand, stderr)).toMatchObject({ action: 'push', code: 'protocol' })
      expect(await refsOf(bare)).toEqual(before)
    })
  })
}

/** A push by stock git during which something happens after the host was listed and before anything is sent. */
async function pausedPush(transport: 'http' | 'ssh', repository: string, meanwhile: () => Promise<unknown>) {
  const clone = await cloneRepository(bare)
  await commitFile(clone)
  const folder = temporaryFolder('hook')
  const [reached, go] = [join(folder, 'reached'), join(folder, 'go')]
  const hook = join(clone, '.git', 'hooks', 'pre-push')
  writeFileSync(hook, `#!/bin/sh\ncat >/dev/null\n: >${reached}\nwhile [ ! -e ${go} ]; do sleep 0.02; done\n`)
  chmodSync(hook, 0o755)
  const { url, env } = await stand.remote(transport, repository)
  const pushing = git(['push', url, 'HEAD:refs/heads/main'], { cwd: clone, env })
  await until(() => existsSync(reached), 'git to have listed the host')
  await meanwhile()
  writeFileSync(go, '')
  return pushing
}

describe('a credential', () => {
  test('that is no token of ours is asked for again, and the attempt is on record', async () => {
    const { url } = await stand.remote('http', 'web/acme/app')
    const wrong = new URL(url)
    wrong.password = 'not-a-token-of-this-gate'
    const untouched = await unseen(stand, bare)
    const { status, stderr } = await git(['ls-remote', wrong.href])
    expect(status).toBe(128)
    expect(stderr).toContain('remote: this gate needs a token of yours: any user name, the token as the password')
    expect(stderr).toContain('fatal: Authentication failed for')
    await untouched()
    // Nobody waits for this record: there was nobody yet to do something.
    const signins = await until(async () => {
      const records = (await stand.records()).filter(record => record.kind === 'signin.refused')
      return records.length > 0 && records
    }, 'the refused sign-in to be on record')
    expect(signins.at(-1)).toMatchObject({ code: 'credential', claimed: 'alice', origin: { transport: 'http' } })
    expect(JSON.stringify(signins)).not.toContain('not-a-token-of-this-gate')
  })

  test('that is no key of ours opens no SSH connection', async () => {
    const { url } = await stand.remote('ssh', 'ssh1/acme/app')
    const ssh =
      'ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'
    const { status, stderr } = await git(['ls-remote', url], {
      env: { GIT_SSH_COMMAND: `${ssh} -o IdentitiesOnly=yes -o IdentityFile=none` },
    })
    expect(status).toBe(128)
    expect(stderr).toContain('Permission denied')
  })

  test('that was revoked is refused at its next use, whatever windows are open', async () => {
    const grant: Grant = await stand.grant({ repository: '**' })
    const { url, env } = await stand.remote('http', 'web/acme/app')
    expect((await git(['ls-remote', url], { env })).status).toBe(0)
    const { jti } = decodeJwt(new URL(url).password)
    await stand.store.bar('alice', `token:${jti}`, { reason: 'laptop lost' })
    const untouched = await unseen(stand, bare)
    const { stderr } = await git(['ls-remote', url], { env })
    expect(stderr).toMatch(/^fatal: remote error: the credential you used has been revoked\nsign in again, or ask/)
    expect(await recordTold(stand, stderr)).toMatchObject({ code: 'barred', identity: { kind: 'token', id: jti } })
    await untouched()
    await stand.revoke(grant)
  })
})

// These stop and start what everything needs, so they come last.
describe('without what the gate stands on', () => {
  for (const [transport, upstream] of [
    ['http', 'web'],
    ['ssh', 'ssh1'],
  ] as const) {
    const repository = `${upstream}/acme/app`

    test(`over ${transport}, with Redis hung, nothing is let through and nobody waits`, async () => {
      await stand.grant({ repository })
      const { url, env } = await stand.remote(transport, repository)
      expect((await git(['ls-remote', url], { env })).status).toBe(0)
      const untouched = await unseen(stand, bare)
      stand.redis.pause()
      const { status, stderr } = await git(['ls-remote', url], { env, timeout: 5_000 })
      stand.redis.resume()
      expect(status).toBe(128)
      if (transport === 'http') {
        expect(stderr).toContain('remote error: the gate cannot reach its grants and lets nothing through')
        expect(await recordTold(stand, stderr)).toMatchObject({ code: 'redis-unreachable' })
      } else expect(stderr).toContain('the login failed by a fault of the server')
      await untouched()
      await until(async () => (await git(['ls-remote', url], { env })).status === 0, 'the gate to be back', 5_000)
    })
  }

  for (const transport of ['http', 'ssh'] as const) {
    test(`over ${transport}, with the Git host down, the person is told so and the record says why`, async () => {
      const repository = 'down/acme/app'
      await stand.grant({ repository: '**' })
      const settings = stand.proxies[0]!.settings
      const down = { ...settings.upstreams.get('web')!, name: 'down', url: new URL('http://127.0.0.1:1/') }
      const proxy = await stand.startProxy({ upstreams: new Map([['down', down]]) })
      const { url, env } = await stand.remote(transport, repository, proxy)
      for (const args of [
        ['ls-remote', url],
        ['push', url, 'HEAD:main'],
      ]) {
        const { status, stderr } = await git(args, { env, cwd: work })
        expect(status).toBe(128)
        expect(stderr).toMatch(/^fatal: remote error: the Git host cannot be reached\ntry again; if it stays so, tell/)
        expect(stderr).not.toContain('127.0.0.1:1/')
        expect(await recordsOf(stand, operationIn(stderr))).toMatchObject([
          { kind: 'operation.start' },
          { kind: 'operation.end', result: 'failed', reason: expect.stringContaining('ECONNREFUSED') },
        ])
      }
    })
  }

  test('with the ledger gone nothing is let through over either transport', async () => {
    await stand.grant({ repository: '**' })
    const untouched = await unseen(stand, bare)
    await stand.postgres.kill()
    for (const [transport, name] of [
      ['http', 'web/acme/app'],
      ['ssh', 'ssh1/acme/app'],
    ] as const) {
      const { url, env } = await stand.remote(transport, name)
      const { status, stderr } = await git(['ls-remote', url], { env })
      expect(status).toBe(128)
      expect(stderr).toMatch(/^fatal: remote error: the gate cannot write its record and lets nothing through\n/)
      await untouched()
    }
    await stand.postgres.restart()
    const { url, env } = await stand.remote('http', 'web/acme/app')
    await until(async () => (await git(['ls-remote', url], { env })).status === 0, 'the ledger to be written again')
  })
})
