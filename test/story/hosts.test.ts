import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { HookSettings } from '../../config/hooks.ts'
import * as bitbucket from '../admin/hooks/payloads/bitbucket.ts'
import * as gitea from '../admin/hooks/payloads/gitea.ts'
import * as github from '../admin/hooks/payloads/github.ts'
import * as gitlab from '../admin/hooks/payloads/gitlab.ts'
import { about, type Told } from '../admin/hooks/payloads/told.ts'
import { type Host, headersOf } from '../admin/hooks/signing.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { cloneRepository, commitFile, git, makeRepository, refsOf } from '../support/git.ts'
import { until } from '../support/program.ts'
import { type Stand, startStand } from '../support/stand.ts'
import { UNDERWAY_BYTES, underway } from '../support/underway.ts'

// A merge at a Git host opens a window, and the end of its pipeline closes it, with nobody doing anything: a whole gate, real
// git, and of each host the messages that it documents, of the commit that was merged and of this minute.

const POLICY = `version: 1
requests:
  - name: merged
    trigger: pull request merged into master
    opens: push
    repositories: local/acme/*
    automatic: true
    window: 30m
`
const SECRET = 'a secret that all of them share'
const common = { secret: SECRET, upstream: 'local' }
const members = { ...common, principal: '{login}' }
const actor = (id: string) => new Map([[id, 'mona']])
const WATCHER = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const hooks: readonly HookSettings[] = [
  { type: 'revoke', name: 'siem', secret: WATCHER },
  { ...members, type: 'github', name: 'github', actors: actor('21031067') },
  { ...members, type: 'gitlab', name: 'gitlab', actors: actor('1') },
  { ...common, type: 'bitbucket', name: 'bitbucket', actors: actor('{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}') },
  { ...common, type: 'gitea', name: 'gitea', actors: actor('1') },
]

let stand: Stand
let control: ControlPlane
beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  // As of a Redis that was just emptied: the control plane tells it everything, its own keys as well.
  await stand.store.doubt()
  const engines = { redis: stand.redis.url, postgres: stand.postgres.url }
  control = await startControlPlane(engines, { mona: 'developer', root: 'admin' }, POLICY, { hooks })
  await stand.startProxy()
})
afterAll(async () => {
  await control?.close()
  await stand?.close()
})

let deliveries = 0
async function tell(host: Host, { event, body }: Told): Promise<void> {
  const text = JSON.stringify(body)
  const headers = headersOf(host, { event, body: text, id: `delivery-${++deliveries}` }, SECRET)
  const answer = await fetch(`${control.url}/hooks/${host}`, { method: 'POST', headers, body: text })
  expect(answer.status).toBe(204)
}

test.each([
  ['github', github],
  ['gitlab', gitlab],
  ['bitbucket', bitbucket],
  ['gitea', gitea],
] as const)(
  '%s: what is pushed after a merge goes through until its pipeline ends, and not after',
  async (host, says) => {
    const bare = await makeRepository(join(stand.folder, 'acme', `${host}.git`))
    const work = await cloneRepository(bare)
    const url = new URL(`${stand.proxies[0]?.urls.http}/local/acme/${host}.git`)
    url.username = 'mona'
    url.password = readFileSync(join(control.folder, 'mona'), 'utf8').trim()
    const push = () => git(['push', url.href, 'HEAD:refs/heads/master'], { cwd: work })
    const opened = async () => (await stand.store.live('mona')).length
    const commit = await commitFile(work, 'merged.ts', 'export const merged = true\n')
    const facts = { repository: `acme/${host}`, commit, at: new Date().toISOString() }

    expect(await push()).toMatchObject({ status: 128, stderr: expect.stringContaining('no open window') })
    await tell(host, about(says.merged, facts))
    await until(async () => (await opened()) === 1, 'the window to be open')
    expect(await push()).toMatchObject({ status: 0 })
    expect((await refsOf(bare))['refs/heads/master']).toBe(commit)

    await tell(host, about(says.began, facts))
    await commitFile(work, 'deployed.ts', 'export const deployed = true\n')
    expect(await push()).toMatchObject({ status: 0 })

    await tell(host, about(says.over, facts))
    await until(async () => (await opened()) === 0, 'the window to be closed')
    await commitFile(work, 'late.ts', 'export const late = true\n')
    expect(await push()).toMatchObject({ status: 128 })
  },
)

test('a network that a watcher locks out is cut and let in no more, until somebody lifts it', async () => {
  const repository = 'local/acme/large'
  await makeRepository(join(stand.folder, 'acme', 'large.git'), { bytes: UNDERWAY_BYTES })
  await stand.grant({ repository })
  const { url, env } = await stand.remote('ssh', repository)
  const list = () => git(['ls-remote', '-q', url], { env })
  const running = await underway(stand, { what: 'clone', transport: 'ssh', repository })

  const body = JSON.stringify({ network: '127.0.0.0/8', reason: 'an infected office' })
  const at = new Date()
  const headers = {
    'content-type': 'application/json',
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
    'webhook-signature': new Webhook(WATCHER).sign('msg_1', at, body),
  }
  const answer = await fetch(`${control.url}/hooks/siem`, { method: 'POST', headers, body })
  expect(answer.status).toBe(204)
  expect(await running.end()).toMatchObject({ result: 'cut', reason: expect.stringContaining('127.0.0.0/8') })
  await running.finish()
  running.line.stop()
  expect((await list()).stderr).toContain('nothing is let in from 127.0.0.0/8: an infected office')

  expect(await control.run('root', 'drawbridge', 'unlock', 'network:127.0.0.0/8')).toMatchObject({ status: 0 })
  await until(async () => (await list()).status === 0, 'the network to be let in')
})
