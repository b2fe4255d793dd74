import { existsSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Ready } from '../../deploy/trial/welcome.ts'
import { gitOk, refsOf } from '../support/git.ts'
import { type Program, startProgram, temporaryFolder, until } from '../support/program.ts'
import { createWalker, throughProvider } from '../support/walker.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const folder = temporaryFolder('trial')
const readyFile = join(folder, 'ready.json')

function startTrial(...args: string[]): Promise<Program> {
  return startProgram(process.execPath, [join(ROOT, 'deploy/trial/main.ts'), ...args], {
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

/** Everything between the line that says to paste and the end, as a shell runs it when it is pasted. */
async function paste(work: string): Promise<{ readonly lines: string; readonly said: string }> {
  const [, printed = ''] = trial.output().split('Paste these into another terminal.\n')
  const lines = printed.replaceAll('/tmp/hello', work)
  const said = { text: '' }
  // -v prints each line before it is run, so that what it says can be told from what the next one says.
  const shell = await startProgram('bash', ['-vc', lines], {
    env: { ...process.env, GIT_TERMINAL_PROMPT: '0' },
    onOutput: text => {
      said.text += text
    },
  })
  await shell.ended
  await shell.closed
  return { lines, said: said.text }
}

test('the printed lines, pasted, tell the whole story: refused, asked, approved, cloned, pushed, closed, recorded', async () => {
  const work = join(temporaryFolder('hello'), 'hello')
  const { lines, said } = await paste(work)
  const steps = said.split(/^# \d\. .*\n/m)
  expect(lines.match(/^# \d\. /gm)).toHaveLength(7)
  expect(steps).toHaveLength(8)
  const [, refused, asked, approved, through, unasked, closed, record] = steps as [string, ...string[]]

  expect(refused).toContain(`ask with: git access request ${ready.repository}`)
  expect(asked).toMatch(/r-[0-9a-z]{20} waits for .*leads/)
  expect(approved).toContain('is approved: g-')
  expect(through).toContain('let through by g-')
  expect(through).toContain('[new branch]')
  // The last of it, over ssh.
  expect(through).toMatch(/^g-\S+ {2}demo\/hello {2}fetch,create,update {2}until /m)
  expect(unasked).toContain('your window does not allow to delete it')
  expect(unasked).toContain(`ask with: git access request ${ready.repository} --delete --ref mine --for 1h`)
  expect(closed).toMatch(/g-\S+ is over: revoked/)
  expect(closed).toContain(`no open window for you on ${ready.repository}`)

  const head = await gitOk(['-C', work, 'rev-parse', 'HEAD'])
  expect((await refsOf(join(folder, 'upstream/hello.git')))['refs/heads/mine']).toBe(head)
  for (const kind of [
    'operation.refused',
    'request.made',
    'request.approved',
    'grant.issued',
    'operation.end alice push',
    'request.denied',
    'grant.ended',
  ]) {
    expect(record).toContain(kind)
  }
  for (const { token } of ready.people) expect(said).not.toContain(token)
})

test('the whole story goes over stock ssh as well', async () => {
  const ssh = async (person: string, ...words: string[]) => {
    const program = await startProgram('ssh', ['-F', join(folder, 'ssh', person), 'gate', ...words])
    await program.ended
    await program.closed
    return program.output()
  }
  const id = /r-[0-9a-z]{20}/.exec(
    await ssh('alice', 'request', ready.repository, '--fetch', '--reason', 'by ssh'),
  )?.[0]
  expect(await ssh('bob', 'pending')).toContain(`${id}  alice  fetch demo/hello`)
  expect(await ssh('bob', 'approve', id ?? '')).toContain('is approved: g-')
  const env = { ...process.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}` }
  const url = `ssh://gate/${ready.repository}.git`
  const clone = await startProgram('alice', ['git', 'clone', url, join(temporaryFolder('ssh'), 'hello')], { env })
  expect([await clone.ended, clone.output()]).toEqual([0, expect.stringContaining('let through by g-')])
  expect(await ssh('alice', 'release', id ?? '')).toContain('is over')
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

test('the next start keeps what was pushed, has a provider to sign in by when told so, and kill -9 leaves no orphans', async () => {
  trial = await startTrial('--sign-in')
  ready = await untilReady(trial)
  expect(Object.keys(await refsOf(join(folder, 'upstream/hello.git')))).toContain('refs/heads/mine')

  const ask = async (path: string, body: object) => {
    const headers = { 'content-type': 'application/json' }
    const answer = await fetch(`${ready.admin}/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
    return (await answer.json()) as { [name: string]: string }
  }
  const { device_code, verification_uri_complete: at = '' } = await ask('/login/device', {})
  const walker = createWalker()
  const { form } = await throughProvider(walker, at, 'bob')
  await walker.go(form?.action ?? '', { ...form?.fields, answer: 'allow' })
  const signedIn = await ask('/login/token', { device_code })
  expect(signedIn).toMatchObject({
    state: 'done',
    signin: { principal: 'bob', roles: ['developer', 'approver', 'admin'] },
  })
  await trial.stop('SIGKILL')
  await until(async () => (await leftBehind()).length === 0, 'every child to end')
})
