import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Record } from '../../audit/record.ts'
import { type ControlPlane, startControlPlane } from '../support/control.ts'
import { cloneRepository, commitFile, git, gitEnvironment, makeRepository, refsOf } from '../support/git.ts'
import { makeKey } from '../support/keys.ts'
import { startProgram, until } from '../support/program.ts'
import { sshCommand, sshOptions } from '../support/sshd.ts'
import { type Stand, type StartedProxy, startStand } from '../support/stand.ts'

// The heart of it: refused, asked for, approved by two people in two ways, gone on by itself, ended by idleness. Everything
// is real: git, ssh, Redis, Postgres, a control plane and two proxies.

const POLICY = `version: 1
groups:
  leads: [mona, raj]
requests:
  - name: work
    trigger: push
    repositories: local/acme/*
    refs: [main]
    approvers: { n: 2, of: [leads] }
    reason: true
    auto_request: { wait: 2m }
    revoke_on_idle: 4s
  - { name: read, trigger: clone, repositories: local/acme/*, approvers: leads }
  - name: near
    trigger: push
    repositories: local/near/*
    networks: [127.0.0.0/8]
    hours: { days: mon-sun, from: "00:00", to: "24:00" }
    approvers: leads
  - { name: quick, trigger: push, repositories: local/quick/*, approvers: leads }
  - name: self
    trigger: [push, clone]
    repositories: local/self/*
    auto_request: { wait: 2m }
    approvers: leads
  - { name: soon, trigger: push, repositories: local/soon/*, auto_request: { wait: 1s }, approvers: leads }
`
const PEOPLE = ['dana', 'mona', 'raj', 'eve', 'kim'] as const
const CLI = new URL('../../cli', import.meta.url).pathname

let stand: Stand
let control: ControlPlane
let proxy: StartedProxy
let bare: string
const keys: { [person: string]: string } = {}

beforeAll(async () => {
  stand = await startStand({ proxies: 0 })
  // As of a Redis that was just emptied: the control plane tells it everything, its own keys as well.
  await stand.store.doubt()
  control = await startControlPlane(
    { redis: stand.redis.url, postgres: stand.postgres.url },
    {
      dana: 'developer',
      mona: 'approver',
      raj: 'developer',
      eve: 'developer',
      kim: 'auditor',
      root: 'admin',
      'service:gate': 'front',
    },
    POLICY,
  )
  proxy = await stand.startProxy({ control: { url: control.url, tokenFile: join(control.folder, 'service:gate') } })
  await stand.startProxy(proxy.settings)
  for (const person of PEOPLE) {
    const key = await makeKey(person)
    keys[person] = key.path
    const added = await control.run(person, 'drawbridge', 'key', 'add', `${key.path}.pub`)
    expect([added.status, added.stderr]).toEqual([0, expect.stringContaining(person)])
  }
  bare = await makeRepository(join(stand.folder, 'acme', 'app.git'))
})
afterAll(async () => {
  await control?.close()
  await stand?.close()
})

interface Said {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Stock ssh, its words as a person's shell hands them over. */
function ssh(person: (typeof PEOPLE)[number], ...words: string[]): Promise<Said> {
  const { hostname, port } = new URL(proxy.urls.ssh ?? '')
  const args = [...sshOptions({ key: keys[person] ?? '' }), '-p', port, `git@${hostname}`, ...words]
  const child = spawn('ssh', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) child[stream].on('data', chunk => (said[stream] += chunk))
  return new Promise(resolve => child.once('close', status => resolve({ status, ...said })))
}

function remote(person: string, repository: string, at: StartedProxy = proxy): string {
  const url = new URL(`${at.urls.http}/${repository}.git`)
  url.username = person
  url.password = readFileSync(join(control.folder, person), 'utf8').trim()
  return url.href
}

const idIn = (text: string) => /r-[0-9a-z]{20}/.exec(text)?.[0] ?? text

/** The ledger as `audit list` gives it: the newest first. */
async function ledger(): Promise<Record[]> {
  const listed = await control.run('root', 'drawbridge', 'audit', 'list', '--limit', '1000', '--json')
  return listed.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
    .map(entry => ('record' in entry ? entry.record : entry) as Record)
}

test('a push is refused, asked for, approved by one at a terminal and one over ssh, and goes on by itself', async () => {
  const work = await cloneRepository(bare)
  const tip = await commitFile(work, 'rounding.ts', 'export const cents = 100\n')
  const url = remote('dana', 'local/acme/app')

  const refused = await git(['push', url, 'HEAD:refs/heads/main'], { cwd: work })
  expect(refused.stderr).toContain('ask with: git access request local/acme/app --push --for 1h')

  const asked = await control.run(
    'dana',
    'git-access',
    ...['request', 'local/acme/app', '--push', '--ref', 'main', '--for', '1h', '--reason', 'PAY-231 rounding'],
  )
  const id = idIn(asked.stdout)

  // The very push, which now stands open and says for whom it waits.
  const over = `${proxy.urls.ssh}/local/acme/app.git`
  const env = gitEnvironment({ GIT_SSH_COMMAND: sshCommand({ key: keys.dana ?? '' }) })
  const waiting = await startProgram('git', ['-C', work, 'push', over, 'HEAD:refs/heads/main'], { env })
  await until(() => waiting.output().includes('waiting, 00:0'), 'the countdown')
  expect(waiting.output()).toContain(`drawbridge: ${id} asks for this: 2 of leads to approve`)

  const first = await control.run('mona', 'drawbridge', 'request', 'approve', id)
  expect(first.stderr).toContain('waits for')
  expect((await ssh('raj', 'pending')).stdout).toContain(`${id}  dana  create,update local/acme/app refs/heads/main`)
  expect((await refsOf(bare))['refs/heads/main']).not.toBe(tip)
  const second = await ssh('raj', 'approve', id, '--reason', "it's fine (PAY-231)")
  expect(second).toMatchObject({ status: 0, stderr: expect.stringContaining('is approved: g-') })

  expect(await waiting.ended).toBe(0)
  await waiting.closed
  expect(waiting.output()).toContain('let through by g-')
  expect((await refsOf(bare))['refs/heads/main']).toBe(tip)

  const grant = /g-[0-9a-z]{20}/.exec(second.stderr)?.[0] ?? ''
  const told = await until(async () => {
    const records = await ledger()
    return records.some(record => record.kind === 'grant.ended' && record.grant === grant) && records
  }, 'the window to end on idleness')
  const again = await git(['push', url, 'HEAD:refs/heads/main'], { cwd: work })
  expect(again.stderr).toContain('no open window')

  const { policy } = told.find(record => record.kind === 'request.made' && record.request === id) as { policy?: string }
  expect(policy).toMatch(/./)
  const approval = { request: id, approvers: ['mona', 'raj'], policy }
  expect(told.find(record => record.kind === 'grant.issued' && record.grant === grant)).toMatchObject(approval)
  const push = told.find(record => record.kind === 'operation.start' && record.action === 'push')
  expect(push).toMatchObject({ principal: 'dana', grants: [grant], under: [{ grant, ...approval }] })

  const story = told
    .toReversed()
    .filter(record => ('request' in record && record.request === id) || aboutPush(record) || 'grant' in record)
    .map(summary)
  expect(story).toEqual([
    'operation.refused dana no-grant',
    'request.made dana',
    'request.vote mona via cli',
    'request.vote raj via ssh',
    'request.approved raj via ssh',
    'grant.issued raj',
    'operation.start dana',
    'operation.end dana ok',
    'grant.ended drawbridge idle',
  ])
})

function aboutPush(record: Record): boolean {
  if (record.kind === 'operation.refused') return record.code === 'no-grant'
  return (record.kind === 'operation.start' || record.kind === 'operation.end') && record.action === 'push'
}

function summary(record: Record): string {
  const facts: object = record
  const of = (name: string) => Reflect.get(facts, name)
  const who = of('by') ?? of('principal')
  const how = of('code') ?? of('how') ?? of('result') ?? (of('via') && `via ${of('via')}`)
  return [record.kind, who, how].filter(Boolean).join(' ')
}

test.each(['http', 'ssh'] as const)('git access run over %s asks, waits and pushes by itself', async transport => {
  const repository = `local/quick/run-${transport}`
  const target = await makeRepository(join(stand.folder, 'quick', `run-${transport}.git`))
  const work = await cloneRepository(target)
  const tip = await commitFile(work, 'by-itself', transport)
  const url = transport === 'http' ? remote('dana', repository) : `${proxy.urls.ssh}/${repository}.git`
  const env = { ...control.as('dana'), GIT_SSH_COMMAND: sshCommand({ key: keys.dana ?? '' }) }
  const push = ['git', '-C', work, 'push', url, 'HEAD:refs/heads/main']
  const running = await startProgram(
    process.execPath,
    [join(CLI, 'git-access.ts'), 'run', '--for', '2h', '--', ...push],
    {
      env: { ...gitEnvironment(env), ...control.as('dana') },
    },
  )
  const id = await until(() => /(r-[0-9a-z]{20}) waits for/.exec(running.output())?.[1], 'the request to be made')
  expect((await refsOf(target))['refs/heads/main']).not.toBe(tip)
  await control.run('mona', 'drawbridge', 'request', 'approve', id)
  expect(await running.ended).toBe(0)
  expect((await refsOf(target))['refs/heads/main']).toBe(tip)
  const { for: length, actions } = JSON.parse((await control.run('dana', 'git-access', 'status', id, '--json')).stdout)
  expect([length, actions]).toEqual(['2h', ['create', 'update']])
  await control.run('dana', 'git-access', 'release', id)
})

/** What is pending for a repository, as the one who asked sees it. */
async function pendingFor(person: string, repository: string): Promise<{ id: string; reason: string } | undefined> {
  const { stdout } = await control.run(person, 'git-access', 'status', '--json')
  const { requests } = JSON.parse(stdout) as {
    requests: { id: string; repository: string; reason: string; state: string }[]
  }
  return requests.find(request => request.repository === repository && request.state === 'requested')
}

test.each(['http', 'ssh'] as const)(
  'a push over %s asks by itself, waits, and goes on as the very same command',
  async transport => {
    const repository = `local/self/push-${transport}`
    const target = await makeRepository(join(stand.folder, 'self', `push-${transport}.git`))
    const work = await cloneRepository(target)
    const tip = await commitFile(work, 'by-itself', transport)
    const url = transport === 'http' ? remote('dana', repository) : `${proxy.urls.ssh}/${repository}.git`
    const env = gitEnvironment({ GIT_SSH_COMMAND: sshCommand({ key: keys.dana ?? '' }) })
    const push = () => startProgram('git', ['-C', work, 'push', url, 'HEAD:refs/heads/main'], { env })

    const left = await push()
    const id = (await until(() => pendingFor('dana', repository), 'the request to be filed')).id
    if (transport === 'ssh') {
      await until(() => left.output().includes('waiting, 00:0'), 'the countdown')
      expect(left.output()).toContain(`drawbridge: ${id} asks for this: one of`)
    }
    // Ctrl-C.
    await left.stop('SIGINT')
    expect(await pendingFor('dana', repository)).toMatchObject({
      id,
      reason: expect.stringContaining('push was refused'),
    })

    const pushing = await push()
    if (transport === 'ssh') await until(() => pushing.output().includes('waiting, 00:0'), 'the countdown')
    expect((await refsOf(target))['refs/heads/main']).not.toBe(tip)
    const approved = await control.run('mona', 'drawbridge', 'request', 'approve', id)
    expect([approved.status, approved.stderr]).toEqual([0, expect.stringContaining('is approved')])
    expect([await pushing.ended, pushing.output()]).toEqual([0, expect.stringContaining('let through by')])
    expect((await refsOf(target))['refs/heads/main']).toBe(tip)
    const made = await until(async () => {
      const records = (await ledger()).filter(record => record.kind === 'request.made' && record.request === id)
      return records.length > 0 && records
    }, 'the request to be in the ledger')
    expect(made.map(summary)).toEqual(['request.made dana via refusal'])
  },
)

test('the review finds that every branch was given for a push to one, and says what would have been enough', async () => {
  // A push is two operations, its listing and itself; with only the first on record the window was not used for what it allows.
  const pushed = (record: Record) =>
    record.kind === 'operation.end' && record.action === 'push' && record.repository === 'local/self/push-ssh'
  await until(async () => (await ledger()).some(pushed), 'the push to be in the ledger')
  const { stdout } = await control.run('root', 'drawbridge', 'review', '--json')
  const { found } = JSON.parse(stdout) as { found: { repository: string; findings: string[]; enough?: string[] }[] }
  const window = found.find(({ repository }) => repository === 'local/self/push-ssh')
  expect(window).toMatchObject({
    findings: ['refs'],
    enough: ['git access request local/self/push-ssh --push --ref main'],
  })
  expect((await control.run('dana', 'drawbridge', 'review')).status).toBe(4)
})

test('git access run takes up the request that a refusal has filed, and asks anew with the reason it was given', async () => {
  const target = await makeRepository(join(stand.folder, 'soon', 'app.git'))
  const work = await cloneRepository(target)
  const tip = await commitFile(work, 'soon', 'x')
  const push = ['git', '-C', work, 'push', remote('dana', 'local/soon/app'), 'HEAD:refs/heads/main']
  const running = await control.start('dana', 'git-access', 'run', '--reason', 'PAY-231', '--', ...push)
  const id = await until(() => /drawbridge: (r-[0-9a-z]{20}) waits for/.exec(running.output())?.[1], 'run to wait')
  expect(running.output()).toContain(`asked for: ${id} waits for one of`)
  expect(await pendingFor('dana', 'local/soon/app')).toMatchObject({ id, reason: 'PAY-231' })
  await control.run('mona', 'drawbridge', 'request', 'approve', id)
  expect(await running.ended).toBe(0)
  expect((await refsOf(target))['refs/heads/main']).toBe(tip)
})

test('git access run ends with 1 when it is denied, and with git’s own status for anything else', async () => {
  const url = remote('dana', 'local/quick/denied')
  const denied = await control.start('dana', 'git-access', ...['run', '--', 'git', 'push', url, 'HEAD:refs/heads/main'])
  const id = await until(() => /(r-[0-9a-z]{20}) waits for/.exec(denied.output())?.[1], 'the request to be made')
  await control.run('mona', 'drawbridge', 'request', 'deny', id, '--reason', 'not now')
  expect(await denied.ended).toBe(1)
  await denied.closed
  expect(denied.output()).toContain('is denied by mona: not now')

  const elsewhere = await control.start(
    'dana',
    'git-access',
    'run',
    '--',
    'git',
    'rev-parse',
    '--verify',
    'no-such-thing',
  )
  expect(await elsewhere.ended).toBe(128)
})

describe('where and when a rule gives its windows', () => {
  test('goes with the grant into Redis, and what holds here and now goes through', async () => {
    const near = await makeRepository(join(stand.folder, 'near', 'app.git'))
    const asked = await control.run('dana', 'git-access', 'request', 'local/near/app', '--push', '--ref', 'main')
    await control.run('mona', 'drawbridge', 'request', 'approve', idIn(asked.stdout))
    const { grants } = await stand.store.standing('dana')
    expect(grants.find(({ repository }) => repository === 'local/near/app')?.bounds).toEqual({
      networks: [['127.0.0.0/8']],
      hours: [{ zone: 'UTC', spans: expect.arrayContaining([{ from: 0, to: 1440 }]) }],
    })
    const work = await cloneRepository(near)
    await commitFile(work, 'near', 'here\n')
    const pushed = await git(['push', remote('dana', 'local/near/app'), 'HEAD:refs/heads/main'], { cwd: work })
    expect(pushed.status).toBe(0)
  })

  test.each([
    [
      'from elsewhere',
      { networks: [['10.0.0.0/8']] },
      'your window does not hold from 127.0.0.1, only from 10.0.0.0/8',
    ],
    ['at another hour', { hours: [{ zone: 'UTC', spans: [] }] }, 'your window does not hold at this hour'],
  ])('%s the live window lets nothing through', async (_, bounds, sentence) => {
    await stand.grant({ principal: 'eve', repository: 'local/acme/app', bounds })
    const before = await refsOf(bare)
    const work = await cloneRepository(bare)
    await commitFile(work, 'elsewhere', 'x\n')
    const pushed = await git(['push', remote('eve', 'local/acme/app'), 'HEAD:refs/heads/main'], { cwd: work })
    expect(pushed.status).not.toBe(0)
    expect(pushed.stderr).toContain(sentence)
    expect(await refsOf(bare)).toEqual(before)
    const operation = /op-[0-9a-z]{20}/.exec(pushed.stderr)?.[0]
    const told = await until(
      async () => (await ledger()).find(record => 'operation' in record && record.operation === operation),
      'the refusal to be on record',
    )
    expect(told).toMatchObject({ kind: 'operation.refused', code: 'not-here', reason: sentence })
    for (const { id } of (await stand.store.standing('eve')).grants) {
      await stand.store.revoke({ principal: 'eve', grant: id, reason: 'the next story begins' })
    }
  })
})

test('a freeze ends the windows that were given before it, and opens none until it is over', async () => {
  const asked = await control.run('dana', 'git-access', 'request', 'local/quick/frozen', '--push')
  await control.run('mona', 'drawbridge', 'request', 'approve', idIn(asked.stdout))
  const waits = await control.run('dana', 'git-access', 'request', 'local/quick/waits', '--push')
  const freeze = '{ name: freeze, trigger: write, repositories: local/quick/**, forbid: code freeze until Monday }'
  await control.reload(POLICY.replace('requests:\n', `requests:\n  - ${freeze}\n`))
  try {
    const shown = await control.run('dana', 'git-access', 'status', idIn(asked.stdout), '--json')
    expect(JSON.parse(shown.stdout).grants).toMatchObject([{ state: 'revoked' }])
    const late = await control.run('mona', 'drawbridge', 'request', 'approve', idIn(waits.stdout))
    expect(late).toMatchObject({ status: 4, stderr: expect.stringContaining('code freeze until Monday') })
    const issue = [
      '--principal',
      'dana',
      '--repository',
      'local/**',
      '--action',
      'update',
      '--for',
      '1h',
      '--reason',
      'x',
    ]
    const issued = await control.run('root', 'drawbridge', 'grant', 'issue', ...issue)
    expect(issued).toMatchObject({ status: 4, stderr: expect.stringContaining('code freeze until Monday') })
  } finally {
    await control.reload(POLICY)
  }
  expect((await control.run('mona', 'drawbridge', 'request', 'approve', idIn(waits.stdout))).status).toBe(0)
  await control.run('dana', 'git-access', 'release', idIn(waits.stdout))
})

describe('over stock ssh, with nothing installed', () => {
  test('a window is asked for, waited for, shown and given back', async () => {
    // ssh joins the words; the quotes around the reason never arrive.
    const asked = await ssh(
      'dana',
      'request',
      'local/quick/app',
      '--push',
      '--for',
      '2h',
      '--reason',
      "don't wait (PAY-7)",
    )
    expect(asked).toMatchObject({ status: 0, stdout: expect.stringMatching(/^r-[0-9a-z]{20}\n$/) })
    const id = idIn(asked.stdout)
    expect((await ssh('dana', 'status')).stdout).toContain(`${id} waits for`)

    const waiting = ssh('dana', 'wait', id)
    expect((await ssh('mona', 'pending')).stdout).toContain("don't wait (PAY-7)")
    expect((await ssh('mona', 'approve', id)).status).toBe(0)
    expect(await waiting).toMatchObject({ status: 0, stderr: expect.stringContaining('is live') })

    const open = await ssh('dana', 'status')
    expect(open.stdout).toMatch(/^g-\S+ {2}local\/quick\/app {2}create,update/m)
    expect(await ssh('dana', 'release', id)).toMatchObject({ status: 0, stderr: expect.stringContaining('is over') })
    expect((await ssh('dana', 'status')).stdout).not.toContain('local/quick/app')
  })

  test('what messages say to type works here as well: explain, extend, withdraw, and one request by its id', async () => {
    const asking = ['local/quick/more', '--push', '--for', '30m']
    expect((await ssh('dana', 'explain', ...asking)).stdout).toMatch(/^30m, to be approved by one of leads .*quick\)$/m)
    expect(await ssh('dana', 'explain', 'web/other', '--push')).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/^no/),
    })
    const id = idIn((await ssh('dana', 'request', ...asking)).stdout)
    expect(await ssh('dana', 'status', id)).toMatchObject({
      status: 5,
      stdout: expect.stringContaining(`${id} waits for`),
    })
    await ssh('mona', 'approve', id)
    const more = idIn((await ssh('dana', 'extend', id, '--for', '2h')).stdout)
    expect(more).not.toBe(id)
    await ssh('mona', 'approve', more)
    expect((await ssh('dana', 'status')).stdout).toMatch(/local\/quick\/more .*\((119|120) min\)/)
    expect(await ssh('dana', 'withdraw', id)).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('is withdrawn'),
    })
    expect((await ssh('dana', 'status', id)).stdout).toContain('is over: released')
    expect((await ssh('eve', 'withdraw', id)).status).toBe(1)
  })

  test('several repositories are asked for as one, and one answer opens or denies all of it', async () => {
    const id = idIn(
      (
        await ssh(
          'dana',
          ...['request', 'local/quick/x', '--push', '--ref', 'main', '--reason', 'both of them'],
          ...['--and', 'local/quick/y', '--push', '--for', '2h', '--path', 'docs/**', '--path', '*.md'],
        )
      ).stdout,
    )
    expect((await ssh('mona', 'pending')).stdout).toContain(
      `${id}  dana  create,update local/quick/x refs/heads/main and create,update local/quick/y (every branch and tag), changing only docs/** *.md,  for 2h  both of them`,
    )
    const approved = await ssh('mona', 'approve', id)
    expect(approved.stderr.match(/is live/g)).toHaveLength(2)
    await ssh('dana', 'release', id)
  })

  test('a denial says who and why, and whoever waits ends with 1', async () => {
    const id = idIn((await ssh('dana', 'request', 'local/quick/b', '--push', '--ref', 'release/*')).stdout)
    const waiting = ssh('dana', 'wait', id)
    expect((await ssh('mona', 'deny', id)).status).toBe(2)
    await ssh('mona', 'deny', id, '--reason', 'use main instead')
    expect(await waiting).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('denied by mona: use main instead'),
    })
  })

  test('nobody approves their own, nobody sees another’s, and strangers to the policy have no vote', async () => {
    const id = idIn((await ssh('mona', 'request', 'local/quick/c', '--push')).stdout)
    expect(await ssh('mona', 'approve', id)).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('nobody approves or denies what they asked for themselves'),
    })
    expect(await ssh('eve', 'approve', id)).toMatchObject({ status: 1, stderr: expect.stringContaining('there is no') })
    expect((await ssh('eve', 'pending')).stdout).toBe('')
  })

  test('what was mistyped is answered with the usage, and status 2', async () => {
    const bare = await ssh('dana', 'request', 'local/quick/d')
    expect(bare).toMatchObject({ status: 2, stderr: expect.stringContaining('usage: request REPOSITORY… --push|') })
    expect(await ssh('dana', 'request', 'local/quick/d', '--pull')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('there is no --pull'),
    })
    const refused = await ssh('dana', 'request', 'web/other', '--push')
    expect(refused).toMatchObject({ status: 4, stderr: expect.stringContaining('no rule') })
  })

  test('an auditor reads and follows the ledger, and nobody else does', async () => {
    expect((await ssh('kim', 'audit', 'list', '--kind', 'token.created')).stdout).toMatch(
      /^\d+ \S+Z token\.created local/m,
    )
    expect(await ssh('dana', 'audit', 'list')).toMatchObject({
      status: 4,
      stdout: '',
      stderr: expect.stringContaining('dana has no token and no sign-in with the role auditor or admin'),
    })
    const { hostname, port } = new URL(proxy.urls.ssh ?? '')
    const args = [...sshOptions({ key: keys.kim ?? '' }), '-p', port, `git@${hostname}`]
    const tail = await startProgram('ssh', [...args, 'audit tail -f -n 0 --kind request.made --json'])
    // It is not told when it has begun to follow, only what it follows; and to ask for the same again makes no record.
    let asked = 0
    const ask = () => ssh('dana', 'request', `local/quick/tail-${asked++}`, '--push')
    await until(async () => (await ask()) && tail.output().includes('local/quick/tail'), 'the request in the tail')
    expect(JSON.parse(tail.output().split('\n')[0] ?? '')).toMatchObject({
      record: { kind: 'request.made', via: 'ssh' },
    })
    await tail.stop()
  })

  test('without a control plane the words say what to do, and status still shows the windows', async () => {
    const alone = await stand.startProxy()
    const { port } = new URL(alone.urls.ssh ?? '')
    const args = [...sshOptions({ key: keys.dana ?? '' }), '-p', port, 'git@127.0.0.1']
    const run = async (...words: string[]) => {
      const program = await startProgram('ssh', [...args, ...words])
      const status = await program.ended
      await program.closed
      return { status, said: program.output() }
    }
    expect(await run('request', 'local/quick/e', '--push')).toMatchObject({
      status: 3,
      said: expect.stringContaining('control.url and control.token_file'),
    })
    expect((await run('status')).status).toBe(0)
  })
})
