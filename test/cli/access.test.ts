import { execFileSync, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ControlPlane, type Ran, startControlPlane } from '../support/control.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { startProgram, until } from '../support/program.ts'
import { type Redis, startRedis } from '../support/redis.ts'

// `git access` and `drawbridge request` against a real control plane with a policy in force.

const POLICY = `version: 1
groups:
  leads: [mona, raj]
defaults:
  window: { longest: 4h, default: 1h }
requests:
  - { name: read, trigger: clone, repositories: acme/*, automatic: true, approvers: leads }
  - name: release
    trigger: push
    repositories: acme/*
    refs: [release/*]
    approvers: { n: 2, of: [leads] }
    ticket: { pattern: "PAY-[0-9]+", example: PAY-231 }
  - { name: push, trigger: push, repositories: acme/*, approvers: leads, reason: true }
`
const PROGRAM = fileURLToPath(new URL('../../cli/git-access.ts', import.meta.url))

let redis: Redis
let database: Postgres
let control: ControlPlane

beforeAll(async () => {
  ;[redis, database] = await Promise.all([startRedis(), startPostgres()])
  control = await startControlPlane(
    { redis: redis.url, postgres: database.url },
    { dana: 'developer', mona: 'approver', raj: 'approver', eve: 'developer', root: 'admin' },
    POLICY,
  )
})
afterAll(async () => {
  await control?.close()
  await Promise.all([redis?.stop(), database?.stop()])
})

const access = (principal: string, ...args: string[]) => control.run(principal, 'git-access', ...args)
const request = (principal: string, ...args: string[]) => control.run(principal, 'drawbridge', 'request', ...args)

let asked = 0
/** A request to push that nobody has decided, of a repository of its own. */
async function ask(...more: string[]): Promise<{ readonly id: string; readonly repository: string }> {
  const repository = `acme/r${++asked}`
  const refs = more.includes('--ref') ? [] : ['--ref', 'main']
  const made = await access('dana', 'request', repository, '--push', '--reason', 'rounding', ...refs, ...more)
  expect([made.status, made.stderr]).toEqual([0, expect.stringContaining('waits for')])
  return { id: made.stdout.trim(), repository }
}
const stateOf = async (id: string) => (await shown(id)).state
const shown = async (id: string) => {
  return JSON.parse((await access('dana', 'status', id, '--json')).stdout) as {
    state: string
    grants: { id: string; state: string; expires_at: string }[]
  }
}

describe('git access request', () => {
  test('prints the id alone on stdout, and says whom it waits for and how long', async () => {
    const made = await access(
      'dana',
      'request',
      'acme/api.git',
      '--push',
      '--ref',
      'main',
      '--for',
      '2h',
      '--reason',
      'fix rounding',
    )
    expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/^r-[0-9a-z]{20}\n$/) })
    expect(made.stderr).toMatch(
      new RegExp(`^drawbridge: ${made.stdout.trim()} waits for .*leads.*, until \\d{4}-\\d\\d-\\d\\d `),
    )
  })

  test('asking again finds the same; with another length it starts over and the earlier approval is void', async () => {
    const again = ['acme/twice', '--push', '--ref', 'release/1', '--ticket', 'PAY-231']
    const first = await access('dana', 'request', ...again)
    await request('mona', 'approve', first.stdout.trim())
    const second = await access('dana', 'request', ...again)
    expect(second.stdout).toBe(first.stdout)
    const changed = await access('dana', 'request', ...again, '--for', '2h')
    expect(changed.stdout).toBe(first.stdout)
    await request('raj', 'approve', first.stdout.trim())
    expect(await stateOf(first.stdout.trim())).toBe('requested')
  })

  test('several repositories are one request: the approver sees all of it, and every window opens with the one answer', async () => {
    const made = await access(
      'dana',
      ...['request', 'acme/b1', 'acme/b2', '--push', '--ref', 'main', '--and', 'acme/b3', '--push', '--ref', 'dev'],
      ...['--reason', 'all at once', '--for', '2h'],
    )
    const id = made.stdout.trim()
    const told = JSON.parse((await request('mona', 'show', id, '--json')).stdout)
    // A program that knows of one repository only is not shown a part as if it were all.
    expect(told).not.toHaveProperty('repository')
    expect(told).toMatchObject({
      targets: [
        { repository: 'acme/b1', refs: ['refs/heads/main'] },
        { repository: 'acme/b2', refs: ['refs/heads/main'] },
        { repository: 'acme/b3', refs: ['refs/heads/dev'] },
      ],
      for: '2h',
    })
    expect((await request('mona', 'list')).stdout).toMatch(
      new RegExp(`^${id} +dana +acme/b1 .*\n +acme/b2 +create,update +refs/heads/main\n +acme/b3 .*dev$`, 'm'),
    )
    const approved = await request('mona', 'approve', id)
    expect(approved.stdout).toContain(
      'create,update acme/b1 refs/heads/main and create,update acme/b2 refs/heads/main and create,update acme/b3 refs/heads/dev',
    )
    const { grants } = await shown(id)
    expect(new Set(grants.map(({ state }) => state))).toEqual(new Set(['live']))
    expect(grants).toHaveLength(3)
    // Each can be given back by itself, and what is left is made longer as one.
    await access('dana', 'release', grants[1]?.id ?? '')
    const more = (await access('dana', 'extend', id, '--for', '3h')).stdout.trim()
    await request('mona', 'approve', more)
    const after = (await shown(id)).grants
    expect(after.map(({ state }) => state)).toEqual(['live', 'released', 'live'])
    expect(after.map(({ expires_at }, at) => expires_at > (grants[at]?.expires_at ?? ''))).toEqual([true, false, true])
  })

  test('is asked for somebody else, who then sees it and has the window', async () => {
    const made = await access(
      'raj',
      'request',
      'acme/hers',
      '--push',
      '--ref',
      'main',
      '--principal',
      'dana',
      '--reason',
      'x',
    )
    const id = made.stdout.trim()
    expect((await request('mona', 'approve', id)).stdout).toContain('dana (asked by raj)')
    expect((await access('dana', 'status')).stdout).toMatch(/^g-\S+ +acme\/hers /m)
    expect((await access('dana', 'release', id)).status).toBe(0)
  })

  test('fewer paths are asked for, and the approver sees which', async () => {
    const paths = ['--path', 'docs/**', '--path', '!docs/legal']
    const made = await access('dana', 'request', 'acme/b4', '--push', '--ref', 'main', ...paths, '--reason', 'x')
    const approved = await request('mona', 'approve', made.stdout.trim())
    expect(approved.stdout).toContain('refs/heads/main, changing only docs/** !docs/legal,')
  })

  test('where the policy opens by itself, it is approved at once', async () => {
    const made = await access('dana', 'request', 'acme/api', '--fetch')
    expect(made.stderr).toMatch(/^drawbridge: r-\S+ is approved: g-\S+ is live, to /)
  })

  test.each<[string, string[], number, RegExp]>([
    ['no action', ['acme/api'], 2, /what for\n.*hint: say --push, --fetch/],
    ['no repository', ['--push'], 2, /which repository/],
    ['nothing behind --and', ['acme/api', '--push', '--and'], 2, /which repository/],
    [
      'what is mistyped behind --and',
      ['acme/api', '--push', '--and', 'acme/b', '--pull'],
      2,
      /unknown option '--pull'/,
    ],
    ['a bad repository', ['acme', '--push', '--reason', 'x'], 2, /repository: /],
    ['a bad path', ['acme/api', '--push', '--path', '/etc', '--reason', 'x'], 2, /paths.0: a path begins at the top/],
    ['a bad length', ['acme/api', '--push', '--for', 'soon', '--reason', 'x'], 2, /for: is /],
    ['an unknown option', ['acme/api', '--pull'], 2, /unknown option '--pull'/],
    [
      'a longer window than the rule gives',
      ['acme/api', '--push', '--ref', 'main', '--for', '9h', '--reason', 'x'],
      2,
      /at most 4h/,
    ],
    ['no reason where one is needed', ['acme/api', '--push', '--ref', 'main'], 2, /a reason is needed: --reason/],
    ['no ticket where one is needed', ['acme/api', '--push', '--ref', 'release/1'], 2, /for example PAY-231/],
    ['what no rule speaks of', ['other/api', '--push', '--reason', 'x'], 4, /no rule/],
  ])('%s is refused with a sentence and a status', async (_, args, status, sentence) => {
    const refused = await access('dana', 'request', ...args)
    expect(refused).toMatchObject({ status, stdout: '' })
    expect(refused.stderr).toMatch(sentence)
  })

  test('nobody to ask, no token, nobody there: each has its own status', async () => {
    const env = (more: object) => ({ ...process.env, DRAWBRIDGE_URL: '', DRAWBRIDGE_TOKEN_FILE: '', ...more })
    const bare = (more: object) => run(['request', 'acme/api', '--fetch'], env(more))
    expect(await bare({})).toMatchObject({ status: 2, stderr: expect.stringContaining('nobody to ask') })
    expect(await bare({ DRAWBRIDGE_URL: control.url })).toMatchObject({ status: 4 })
    const nowhere = await bare({ DRAWBRIDGE_URL: 'http://127.0.0.1:1', DRAWBRIDGE_TOKEN: 'x' })
    expect(nowhere).toMatchObject({ status: 3, stderr: expect.stringContaining('cannot reach http://127.0.0.1:1') })
  })
})

describe('a person at a terminal', () => {
  test('is asked for what is missing; a program is not', async () => {
    // The repository; what for; which refs; how long; and the reason, once the policy has asked for one.
    const typed = 'acme/prompted\npush\nmain\n\nbecause\n'
    const said = await inTerminal(`'${process.execPath}' '${PROGRAM}' request`, typed)
    expect(said).toMatch(/repository, as <upstream>\/<path>: /)
    expect(said).toMatch(/a reason is needed/)
    const id = /\br-[0-9a-z]{20}\b/.exec(said)?.[0] ?? said
    expect(await shown(id)).toMatchObject({ repository: 'acme/prompted', refs: ['refs/heads/main'], reason: 'because' })

    const piped = await run(['request'], { ...process.env, ...control.as('dana') }, typed)
    expect(piped).toMatchObject({ status: 2, stdout: '', stderr: expect.not.stringContaining('<path>: ') })
  })
})

describe('git access wait', () => {
  test('goes on when the last approval is there, from another process, with the window open', async () => {
    const { id } = await ask('--ref', 'release/9', '--ticket', 'PAY-9')
    const waiting = await control.start('dana', 'git-access', 'wait', id)
    await request('mona', 'approve', id)
    await request('raj', 'approve', id)
    expect(await waiting.ended).toBe(0)
    await waiting.closed
    expect(waiting.output()).toMatch(new RegExp(`^drawbridge: ${id} is approved: g-\\S+ is live, to `))
  })

  test('ends with 1 when it is denied, and says by whom and why; with 5 when the time is over', async () => {
    const { id } = await ask()
    const late = await access('dana', 'wait', id, '--timeout', '1')
    expect(late).toMatchObject({ status: 5, stderr: expect.stringContaining('waits for') })
    await request('mona', 'deny', id, '--reason', 'use the release branch')
    const denied = await access('dana', 'wait', id)
    expect(denied.status).toBe(1)
    expect(denied.stderr).toBe(`drawbridge: ${id} is denied by mona: use the release branch\n`)
  })

  test('killed, it leaves the request standing', async () => {
    const { repository } = await ask()
    const asking = await control.start(
      'dana',
      'git-access',
      'request',
      repository,
      '--push',
      '--ref',
      'main',
      '--wait',
      '--reason',
      'x',
    )
    const id = await until(() => /r-[0-9a-z]{20}/.exec(asking.output())?.[0], 'the request to be made')
    await asking.stop('SIGINT')
    expect(await asking.ended).toBe('SIGINT')
    expect(await stateOf(id)).toBe('requested')
  })
})

describe('git access status', () => {
  test('shows what is open and what waits, one’s own alone', async () => {
    const { id, repository } = await ask()
    const mine = await access('dana', 'status')
    expect(mine.stdout).toMatch(
      new RegExp(`^${id} +dana +${repository} +create,update +refs/heads/main +1h +requested`, 'm'),
    )
    expect(mine.stdout).toMatch(/^GRANT +REPOSITORY +ACTIONS +REFS +STATE +UNTIL +REASON$/m)
    const others = await access('eve', 'status')
    expect(others).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('nothing is open') })
    const both = JSON.parse((await access('dana', 'status', '--json')).stdout)
    expect(both.requests.map((one: { id: string }) => one.id)).toContain(id)
  })

  test('another person’s request is as unknown as none', async () => {
    const { id } = await ask()
    const strange = await access('eve', 'status', id)
    expect(strange).toMatchObject({ status: 1, stderr: `drawbridge: there is no request ${id}\n` })
  })
})

test('git access status --all also shows what is over', async () => {
  const { id } = await ask()
  await request('mona', 'approve', id)
  await access('dana', 'release', id)
  expect((await access('dana', 'status')).stdout).not.toContain(id)
  const all = await access('dana', 'status', '--all')
  expect(all.stdout).toMatch(new RegExp(`^${id} +dana .* approved`, 'm'))
  expect(all.stdout).toMatch(/^g-\S+ .* released /m)
})

describe('git access release and withdraw', () => {
  test('release ends every window of a request, once', async () => {
    const { id } = await ask()
    await request('mona', 'approve', id)
    const over = await access('dana', 'release', id)
    expect(over).toMatchObject({ status: 0, stderr: expect.stringMatching(/^drawbridge: g-\S+ is over\n$/) })
    expect((await shown(id)).grants).toMatchObject([{ state: 'released' }])
    expect(await access('dana', 'release', id)).toMatchObject({ status: 1, stderr: /no window that stands/ })
  })

  test('nobody releases what another holds', async () => {
    const { id } = await ask()
    await request('mona', 'approve', id)
    const [grant] = (await shown(id)).grants
    expect((await access('eve', 'release', grant?.id ?? '')).status).not.toBe(0)
    expect((await shown(id)).grants).toMatchObject([{ state: 'live' }])
  })

  test('withdraw takes a request back, and approving it afterwards opens nothing', async () => {
    const { id } = await ask()
    expect((await access('dana', 'withdraw', id)).status).toBe(0)
    const late = await request('mona', 'approve', id)
    expect(late.status).not.toBe(0)
    expect(await shown(id)).toMatchObject({ state: 'withdrawn', grants: [] })
  })
})

describe('git access extend', () => {
  test('is decided by the same rules, and moves the end of the window from the approval on', async () => {
    const { id } = await ask('--for', '30m')
    await request('mona', 'approve', id)
    const [before] = (await shown(id)).grants
    const extension = await access('dana', 'extend', before?.id ?? '', '--for', '2h')
    expect(extension).toMatchObject({ status: 0, stderr: expect.stringMatching(/waits for .*leads/) })
    expect((await shown(id)).grants).toEqual([before])

    const moment = Date.now()
    const approved = await request('mona', 'approve', extension.stdout.trim())
    expect(approved.stderr).toContain(`the window of ${id} lasts longer`)
    const [after] = (await shown(id)).grants
    expect(after).toMatchObject({ id: before?.id, state: 'live' })
    const lasts = Date.parse(after?.expires_at ?? '') - moment
    expect(lasts).toBeGreaterThan(7_190_000)
    expect(lasts).toBeLessThan(7_260_000)
    // What the gate asks knows it too.
    const told = JSON.parse((await access('dana', 'status', '--json')).stdout)
    expect(told.grants.find((grant: { id: string }) => grant.id === before?.id).expires_at).toBe(after?.expires_at)
  })

  test('a window that was revoked in the meantime stays closed, and whoever approves is told', async () => {
    const { id } = await ask('--for', '30m')
    await request('mona', 'approve', id)
    const extension = (await access('dana', 'extend', id, '--for', '2h')).stdout.trim()
    const [grant] = (await shown(id)).grants
    await control.run('root', 'drawbridge', 'grant', 'revoke', grant?.id ?? '', '--reason', 'no more')
    const late = await request('mona', 'approve', extension)
    expect(late).toMatchObject({ status: 1, stderr: expect.stringContaining('the window is over') })
    expect((await shown(id)).grants).toMatchObject([{ state: 'revoked' }])
    expect(await stateOf(extension)).toBe('requested')
  })

  test.each<[string, (id: string) => Promise<Ran>, RegExp]>([
    ['a shorter one', id => access('dana', 'extend', id, '--for', '5m'), /lasts until .* already/],
    ['longer than the rule gives', id => access('dana', 'extend', id, '--for', '9h'), /at most 4h/],
    ['another person’s', id => access('eve', 'extend', id, '--for', '2h'), /there is no request/],
  ])('%s is refused', async (_, extend, sentence) => {
    const { id } = await ask('--for', '30m')
    await request('mona', 'approve', id)
    const refused = await extend(id)
    expect(refused.status).toBeGreaterThan(0)
    expect(refused.stderr).toMatch(sentence)
  })
})

test('git access explain says what would come of asking, and asks for nothing', async () => {
  const release = await access('dana', 'explain', 'acme/none', '--push', '--ref', 'release/1', '--ticket', 'PAY-1')
  expect(release.stdout).toMatch(/^1h, to be approved by .*leads.* \(rule release\)\n$/)
  const no = await access('dana', 'explain', 'other/none', '--push')
  expect(no).toMatchObject({ status: 1, stdout: expect.stringMatching(/^no.*: /) })
  expect((await access('dana', 'status', '--json')).stdout).not.toContain('acme/none')
})

describe('drawbridge request', () => {
  test('list shows an approver what waits for them; approve shows what was approved', async () => {
    const { id, repository } = await ask('--for', '2h')
    const listed = await request('mona', 'list')
    expect(listed.stdout).toMatch(new RegExp(`^${id} +dana +${repository} `, 'm'))
    expect((await request('eve', 'list')).stdout).not.toContain(id)
    const approved = await request('mona', 'approve', id)
    expect(approved.stdout).toBe(`${id}  dana  create,update ${repository} refs/heads/main  for 2h  rounding\n`)
    expect(approved.stderr).toMatch(/is approved: g-/)
  })

  test('a vote for what was shown earlier does not count once it has changed', async () => {
    const { id, repository } = await ask()
    const seen = JSON.parse((await request('mona', 'show', id, '--json')).stdout)
    await access('dana', 'request', repository, '--push', '--ref', 'main', '--reason', 'rounding', '--for', '3h')
    const stale = await request('mona', 'approve', id, '--digest', seen.digest)
    expect(stale.status).toBe(1)
    expect(stale.stderr).toContain('look at it again')
    expect(await stateOf(id)).toBe('requested')
  })

  test('who asked does not approve, and a developer’s token has no vote', async () => {
    const own = await access('mona', 'request', 'acme/own', '--push', '--ref', 'main', '--reason', 'mine')
    const tried = await request('mona', 'approve', own.stdout.trim())
    expect(tried).toMatchObject({ status: 4, stderr: expect.stringContaining('nobody approves') })
    const { id } = await ask()
    expect((await request('dana', 'approve', id)).status).toBe(4)
  })

  test('what others typed cannot act on the approver’s terminal', async () => {
    const title = await access('dana', 'request', 'acme/x', '--push', '--reason', 'nice\u001b]0;owned\u0007')
    expect(title).toMatchObject({ status: 2, stderr: expect.stringContaining('without control characters') })
    const { id } = await ask('--reason', 'nice\u202eecin')
    const listed = await request('mona', 'approve', id)
    expect(listed.stdout).toContain('nice?ecin')
  })
})

describe('completion', () => {
  test('bash completes the verbs and options, alone and as git’s own command', () => {
    const script = `
      eval "$(cat)"
      COMP_WORDS=(git-access re) COMP_CWORD=1; _git-access; echo "\${COMPREPLY[@]}"
      COMP_WORDS=(git access request --pu) COMP_CWORD=3; _git_access; echo "\${COMPREPLY[@]}"`
    const completion = execFileSync(process.execPath, [PROGRAM, 'completion', 'bash'], { encoding: 'utf8' })
    const said = execFileSync('bash', ['-c', script], { input: completion, encoding: 'utf8' })
    expect(said).toBe('request release\n--push\n')
  })

  test('ids that still stand and repositories one had to do with are asked of the gate, behind options as well', async () => {
    const { id, repository } = await ask()
    const over = await ask()
    await access('dana', 'withdraw', over.id)
    const script = `
      git-access() { '${process.execPath}' '${PROGRAM}' "$@"; }
      eval "$(git-access completion bash)"
      COMP_WORDS=(git-access wait r-) COMP_CWORD=2; _git-access; echo "\${COMPREPLY[@]}"
      COMP_WORDS=(git access request --ref main --push acme/) COMP_CWORD=6; _git_access; echo "\${COMPREPLY[@]}"
      DRAWBRIDGE_URL=http://127.0.0.1:1
      COMP_WORDS=(git-access wait r-) COMP_CWORD=2; _git-access; echo "\${COMPREPLY[@]}"`
    const shell = await startProgram('bash', ['-c', script], { env: { ...process.env, ...control.as('dana') } })
    await shell.closed
    const [ids = '', repositories = '', away] = shell.output().split('\n')
    expect(ids.split(' ')).toContain(id)
    expect(ids.split(' ')).not.toContain(over.id)
    expect(repositories.split(' ')).toContain(repository)
    expect(away).toBe('')
  })

  test.each(['zsh', 'fish'])('%s is given every command, and what to ask the gate for', shell => {
    const script = execFileSync(process.execPath, [PROGRAM, 'completion', shell], { encoding: 'utf8' })
    for (const word of ['extend', 'withdraw', '--break-glass', 'git-access candidates']) expect(script).toContain(word)
    // Nobody types it.
    expect(script).not.toMatch(/whoami[^\n]* candidates/)
  })
})

/** The command as a process, its input given to the end. */
function run(args: readonly string[], env: NodeJS.ProcessEnv, input = ''): Promise<Ran> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) child[stream].on('data', chunk => (said[stream] += chunk))
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  return new Promise(resolve => child.once('close', status => resolve({ status: status ?? -1, ...said })))
}

// An escape sequence that moves the cursor or clears.
const CURSOR = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*[A-Za-z]`, 'g')

/** What a command prints in a terminal of its own, where each line is typed once something new has been asked. */
async function inTerminal(line: string, typed: string): Promise<string> {
  const child = spawn('script', ['-qfec', line, '/dev/null'], {
    env: { ...process.env, ...control.as('dana') },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let said = ''
  child.stdout.on('data', chunk => (said += chunk))
  const ended = new Promise(resolve => child.once('close', resolve))
  for (const answer of typed.split('\n').slice(0, -1)) {
    await until(() => said.replaceAll(CURSOR, '').endsWith(': '), 'the next question')
    said += '\n'
    child.stdin.write(`${answer}\n`)
  }
  await ended
  return said
}
