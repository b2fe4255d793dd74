import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseDocument } from 'yaml'
import { wish } from '../../admin/api/requests.ts'
import { temporaryFolder, until } from '../support/program.ts'

const PAGE = readFileSync(new URL('../../docs/ci.md', import.meta.url), 'utf8')
const SCRIPT = /<!-- window\.sh -->\n```sh\n([\s\S]*?)```/.exec(PAGE)?.[1] ?? ''
const STEPS = [...PAGE.matchAll(/<!-- step: (\w+) -->\n```(\w+)\n([\s\S]*?)```/g)].map(
  ([, ci, language, text]) => [ci ?? '', language ?? '', text ?? ''] as const,
)

test('every CI system of the page has its step', () => {
  expect(STEPS.map(([ci]) => ci)).toEqual(['github', 'gitlab', 'bitbucket', 'circleci', 'buildkite', 'jenkins'])
})

test.each(STEPS)('the step for %s can be read, and asks before it uses', (_, language, text) => {
  if (language === 'yaml') expect(parseDocument(text, { strict: true, uniqueKeys: true }).errors).toEqual([])
  expect(text.indexOf('. window.sh')).toBeGreaterThan(0)
  expect(text.indexOf('git clone')).toBeGreaterThan(text.indexOf('. window.sh'))
})

/** The commands of a step, as its system gives them to a shell. */
function commandsOf(ci: string, language: string, text: string): string {
  if (language === 'groovy') return /sh '''\n([\s\S]*?)'''/.exec(text)?.[1] ?? ''
  const read = parseDocument(text).toJS()
  const commands: Record<string, () => string | string[]> = {
    github: () => read.jobs.deploy.steps[0].run,
    gitlab: () => read.deploy.script,
    bitbucket: () => read.pipelines.branches.main[0].step.script,
    circleci: () => read.jobs.deploy.steps[0].run,
    // Two signs, so that the upload of the pipeline leaves one.
    buildkite: () => read.steps[0].command.replaceAll('$$', '$'),
  }
  return [commands[ci]?.() ?? []].flat().join('\n')
}

describe('window.sh, run by a real shell', () => {
  let server: Server
  let calls: string[]
  /** What the API says to each question about the request, the last one again and again. */
  let states: string[]
  beforeEach(async () => {
    calls = []
    server = createServer(async (request, response) => {
      const chunks = await request.toArray()
      const answer = (status: number, body: object) => response.writeHead(status).end(JSON.stringify(body))
      if (request.headers.authorization !== 'Bearer a-token') return answer(401, { detail: 'unknown token' })
      calls.push(`${request.method} ${request.url}`)
      if (request.url === '/api/v1/requests') {
        const asked = wish.safeParse(JSON.parse(Buffer.concat(chunks).toString()))
        if (!asked.success) return answer(400, { detail: asked.error.message })
      }
      const state = (states.length > 1 ? states.shift() : states[0]) ?? ''
      return state === 'refused'
        ? answer(403, { detail: 'no rule lets you' })
        : answer(200, { id: 'r-1', state, waiting_for: 'leads' })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterEach(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })

  /** @param job what a shell runs, with `window.sh` where it looks for commands */
  function run(job: string, git = '') {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'window.sh'), SCRIPT)
    if (git !== '') writeFileSync(join(folder, 'git'), `#!/bin/sh\n${git}\n`)
    if (git !== '') chmodSync(join(folder, 'git'), 0o755)
    const { port } = server.address() as AddressInfo
    const env = {
      ...process.env,
      PATH: `${folder}:${process.env.PATH}`,
      GATE_TOKEN: 'a-token',
      ACCESS: `http://127.0.0.1:${port}`,
      GATE: 'https://gate.example',
    }
    const shell = spawn('sh', ['-e', '-c', job], { cwd: folder, env })
    let said = ''
    const hear = (part: Buffer) => {
      said += String(part)
    }
    for (const stream of [shell.stdout, shell.stderr]) stream.on('data', hear)
    const over = once(shell, 'close').then(([status]) => ({ status: status as number | null, said }))
    return { shell, over, said: () => said }
  }
  const ASKED = 'POST /api/v1/requests'
  const WAITED = 'GET /api/v1/requests/r-1?wait=60s'
  const GIVEN_BACK = 'POST /api/v1/requests/r-1/withdraw'

  test('waits until people approved, gives git its credential, and gives the window back', async () => {
    states = ['requested', 'requested', 'approved']
    const { status, said } = await run(
      '. window.sh\ngit config --get-urlmatch http.extraHeader https://gate.example/acme/payments.git',
    ).over
    expect(said).toContain('r-1 waits for leads')
    expect(said).toContain('Authorization: Bearer a-token')
    expect(status).toBe(0)
    expect(calls).toEqual([ASKED, WAITED, WAITED, GIVEN_BACK])
  })

  test.each(STEPS)('as the step for %s has it, asks, uses and gives back', async (ci, language, text) => {
    states = ['approved']
    // Used between the asking and the giving back, and with the credential.
    const git = 'echo "git $* as $GIT_CONFIG_VALUE_0"'
    const { status, said } = await run(commandsOf(ci, language, text), git).over
    expect(said.trim()).toBe('git clone https://gate.example/acme/payments.git as Authorization: Bearer a-token')
    expect(status).toBe(0)
    expect(calls).toEqual([ASKED, GIVEN_BACK])
  })

  test('gives it back when the job fails, and keeps its status', async () => {
    states = ['approved']
    expect(await run('. window.sh\nexit 7').over).toMatchObject({ status: 7 })
    expect(calls).toEqual([ASKED, GIVEN_BACK])
  })

  test('gives it back when the job is cancelled', async () => {
    states = ['approved']
    const { shell, over, said } = run('. window.sh\necho at work; while :; do sleep 0.05; done')
    await until(() => said().includes('at work'), 'the job to be at work')
    shell.kill('SIGTERM')
    expect(await over).toMatchObject({ status: 143 })
    expect(calls).toEqual([ASKED, GIVEN_BACK])
  })

  test.each(['denied', 'lapsed', 'refused'])('does not go on when it was %s', async state => {
    states = [state]
    const { status, said } = await run('. window.sh\necho at work').over
    expect(status).toBe(1)
    expect(said).not.toContain('at work')
    expect(said).toContain(state === 'refused' ? 'no rule lets you' : `r-1 was ${state}`)
  })
})
