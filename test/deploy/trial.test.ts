import { existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Ready } from '../../deploy/trial/welcome.ts'
import { commitFile, git, gitOk, refsOf } from '../support/git.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const folder = temporaryFolder('trial')
const readyFile = join(folder, 'ready.json')

function startTrial(): Promise<Program> {
  return startProgram(process.execPath, [join(ROOT, 'deploy/trial/main.ts')], {
    env: { ...process.env, DRAWBRIDGE_TRIAL: folder },
    deathSignal: 'TERM',
  })
}

async function untilReady(program: Program): Promise<Ready> {
  let over: unknown
  program.ended.then(status => {
    over = status
  })
  return await until(
    () => {
      if (over !== undefined) throw new Error(`the trial ended with ${over}: ${program.output()}`)
      return (
        existsSync(readyFile) &&
        program.output().includes('ready   ') &&
        (JSON.parse(readFileSync(readyFile, 'utf8')) as Ready)
      )
    },
    'the trial to be ready',
    100_000,
  )
}

/** Every process that has the trial's folder on its command line. */
async function leftBehind(): Promise<string[]> {
  const listed = await startProgram('pgrep', ['-a', '-f', folder])
  await listed.ended
  return listed
    .output()
    .split('\n')
    .filter(line => line !== '' && !line.includes('pgrep'))
}

let trial: Program
let ready: Ready

beforeAll(async () => {
  // Somebody else has the port that git over HTTP would like; the trial then takes another and says so.
  const squatter = createServer()
  await new Promise<void>(resolve => squatter.once('error', () => resolve()).listen(8080, '127.0.0.1', resolve))
  trial = await startTrial()
  ready = await untilReady(trial)
  squatter.close()
})
afterAll(async () => {
  await trial?.stop('SIGINT')
})

test('it says where it listens, who there is, and that a port was taken', () => {
  expect(ready.people.map(({ principal, roles }) => [principal, roles])).toEqual([
    ['alice', ['developer']],
    ['bob', ['approver', 'admin']],
    ['carol', ['auditor']],
  ])
  expect(ready.http).not.toContain(':8080')
  expect(trial.output()).toContain('port 8080 is taken')
  // The file holds tokens.
  expect(statSync(readyFile).mode & 0o777).toBe(0o600)
  expect(statSync(folder).mode & 0o077).toBe(0)
})

test('the pasted lines do what they say: refused, let in by a grant, cloned, pushed, recorded', async () => {
  const alice = ready.people.find(({ principal }) => principal === 'alice')!
  const bob = ready.people.find(({ principal }) => principal === 'bob')!
  const carol = ready.people.find(({ principal }) => principal === 'carol')!
  const url = `${ready.http.replace('//', `//alice:${alice.token}@`)}/${ready.repository}.git`
  const work = join(temporaryFolder('hello'), 'hello')

  const refused = await git(['clone', url, work])
  expect(refused.status).toBe(128)
  expect(refused.stderr).toContain(`ask with: git access request ${ready.repository}`)

  const granted = await fetch(`${ready.admin}/api/v1/grants`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${bob.token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({
      principal: 'alice',
      repository: ready.repository,
      actions: ['fetch', 'create', 'update'],
      refs: [],
      for: '1h',
      reason: 'trial',
    }),
  })
  expect(granted.status).toBe(201)

  await gitOk(['clone', '-q', url, work])
  const id = await commitFile(work, 'mine', 'mine\n')
  await gitOk(['push', '-q', 'origin', 'HEAD:refs/heads/mine'], { cwd: work })
  expect((await refsOf(join(folder, 'upstream/hello.git')))['refs/heads/mine']).toBe(id)

  const recorded = await until(async () => {
    const answer = await fetch(`${ready.admin}/api/v1/audit`, { headers: { Authorization: `Bearer ${carol.token}` } })
    const text = await answer.text()
    return text.includes('"result":"ok"') && text.includes('refs/heads/mine') && text
  }, 'the push to be recorded')
  expect(recorded).toContain('operation.refused')
  expect(recorded).not.toContain(alice.token)
})

test('a second start at once says that one is running', async () => {
  const second = await startTrial()
  expect(await second.ended).toBe(1)
  expect(second.output()).toContain('already running here')
  expect(existsSync(readyFile)).toBe(true)
})

test('a role that is killed is started again', async () => {
  const [proxy] = (await leftBehind()).filter(line => line.includes('--role proxy'))
  process.kill(Number(proxy?.split(' ')[0]), 'SIGKILL')
  await until(async () => (await fetch(ready.http).catch(() => undefined)) !== undefined, 'the proxy to be back')
  expect(trial.output()).toContain('proxy ended with SIGKILL; starting it again')
})

test('Ctrl-C stops everything and leaves no process, no socket and no ready.json', async () => {
  await trial.stop('SIGINT')
  expect(await trial.ended).toBe(0)
  expect(await leftBehind()).toEqual([])
  expect(existsSync(readyFile)).toBe(false)
})

test('the next start keeps what was pushed, and kill -9 of it leaves no orphans', async () => {
  trial = await startTrial()
  ready = await untilReady(trial)
  expect(Object.keys(await refsOf(join(folder, 'upstream/hello.git')))).toContain('refs/heads/mine')
  await trial.stop('SIGKILL')
  await until(async () => (await leftBehind()).length === 0, 'every child to end')
})
