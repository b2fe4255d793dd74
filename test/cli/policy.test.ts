import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { main } from '../../cli/drawbridge.ts'

/** The command as a pipeline runs it, but in this process. */
async function drawbridge(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  const said = { out: '', err: '' }
  const before = { out: process.stdout.write, err: process.stderr.write }
  const into = (stream: 'out' | 'err') => (chunk: string | Uint8Array) => {
    said[stream] += Buffer.from(chunk as string).toString()
    return true
  }
  process.stdout.write = into('out')
  process.stderr.write = into('err')
  try {
    return { status: await main(args), ...said }
  } finally {
    process.stdout.write = before.out
    process.stderr.write = before.err
    process.exitCode = undefined
  }
}

let folder = ''
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'policy-cli-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const POLICY = 'version: 1\nrequests: [{ name: r, trigger: push to main, approvers: leads }]\n'

describe('drawbridge policy', () => {
  test('check says what loaded, on stderr, and status 0', async () => {
    const ran = await drawbridge('policy', 'check', file('good.yaml', POLICY))
    expect(ran).toMatchObject({ status: 0, out: '' })
    expect(ran.err).toMatch(/^drawbridge: policy p-[0-9a-f]{12}: 1 rule in .*good\.yaml\n$/)
  })

  test('check of a bad policy names each fault and is status 2, also for programs', async () => {
    const bad = file('bad.yaml', 'version: 1\nrequests: [{ trigger: pusch }]\n')
    const said = await drawbridge('policy', 'check', bad)
    expect(said).toMatchObject({ status: 2, out: '' })
    expect(said.err).toContain('bad.yaml:2:23: requests[0].trigger')
    const json = await drawbridge('policy', 'check', bad, '--json')
    expect(JSON.parse(json.out)).toMatchObject({ ok: false, problems: [{ line: 2, column: 23 }] })
  })

  test('check names what the gate cannot do yet, and what happens instead; --strict fails by it', async () => {
    const beyond = file(
      'beyond.yaml',
      `version: 1
requests:
  - { name: trial, trigger: push, approvers: leads, mode: observe }
  - { name: tree, trigger: [push, delete], approvers: leads, paths: docs/** }
  - { name: call, trigger: push, approvers: [on-call:payments] }
`,
    )
    const said = await drawbridge('policy', 'check', beyond)
    expect(said.status).toBe(0)
    for (const sentence of [
      'beyond.yaml:3: rule "trial": mode: observe holds for repositories, not for rules; what would be refused is refused',
      'beyond.yaml:4: rule "tree": a window with limits on paths takes nothing away: deletions are refused',
      'beyond.yaml:5: rule "call": on_call does not name its schedule; unless the settings do, nobody is on call; others have to approve',
    ]) {
      expect(said.err).toContain(sentence)
    }
    expect((await drawbridge('policy', 'check', beyond, '--strict')).status).toBe(1)
    const json = await drawbridge('policy', 'check', beyond, '--json')
    expect(JSON.parse(json.out)).toMatchObject({ ok: true, unenforced: [{}, {}, {}] })
    expect((await drawbridge('policy', 'check', file('plain.yaml', POLICY), '--strict')).status).toBe(0)
  })

  test('explain names the deciding rule and what would be needed; no is status 1', async () => {
    const path = file('explain.yaml', POLICY)
    const yes = await drawbridge('policy', 'explain', 'dana', 'push', 'acme/api', 'refs/heads/main', '--policy', path)
    expect(yes.status).toBe(0)
    expect(yes.out).toContain('rule "r"')
    expect(yes.out).toContain('git access request acme/api --push --ref main')
    const no = await drawbridge('policy', 'explain', 'dana', 'push', 'acme/api', 'dev', '--policy', path)
    expect(no).toMatchObject({ status: 1 })
    const paths = file(
      'paths.yaml',
      'version: 1\nrequests:\n  - { name: docs, trigger: push, paths: docs/**, automatic: true }\n  - { name: rest, trigger: push, approvers: leads }\n',
    )
    const ask = (path: string) =>
      drawbridge('policy', 'explain', 'dana', 'push', 'acme/api', 'main', '--policy', paths, '--path', path)
    expect((await ask('docs/a.md')).out).toMatch(/lets a push change only docs.*approved by itself.*--path docs\/a.md/s)
    expect((await ask('src/a.ts')).out).toContain('(rule "rest")')
    expect((await drawbridge('policy', 'explain', 'dana', 'shove', 'acme/api', '--policy', path)).status).toBe(2)
  })

  test('test runs what stands beside the policy; a failure is status 1 and says what came instead', async () => {
    const path = file('tested.yaml', POLICY)
    const given = '{ principal: dana, action: push, repository: acme/api, refs: main }'
    file('a.test.yaml', `tests:\n  - { name: asks, given: ${given}, expect: { answer: ask, rule: r, people: 1 } }\n`)
    expect(await drawbridge('policy', 'test', path)).toMatchObject({
      status: 0,
      err: 'drawbridge: 1 passed, 0 failed\n',
    })
    file('b.test.yaml', `tests:\n  - { name: is open, given: ${given}, expect: { answer: automatic } }\n`)
    const failed = await drawbridge('policy', 'test', path)
    expect(failed).toMatchObject({ status: 1, err: 'drawbridge: 1 passed, 1 failed\n' })
    expect(failed.out).toContain('b.test.yaml:2: is open\n  expected automatic, got ask')
  })

  test('replay says which recorded operations would meet another answer', async () => {
    const operation = {
      id: 'op-1',
      at: '2026-11-18T10:00:00Z',
      principal: 'dana',
      kind: 'person',
      groups: [],
      action: 'update',
      repository: 'acme/api',
      refs: ['refs/heads/dev'],
      result: 'allowed',
    }
    const recorded = file(
      'ops.jsonl',
      `${JSON.stringify(operation)}\n${JSON.stringify({ ...operation, id: 'op-2', refs: ['refs/heads/main'] })}\n`,
    )
    const ran = await drawbridge('policy', 'replay', file('new.yaml', POLICY), '--operations', recorded, '--strict')
    expect(ran).toMatchObject({ status: 1, err: 'drawbridge: 1 of 2 operations would change\n' })
    expect(ran.out).toMatch(/^op-1 dana update acme\/api refs\/heads\/dev: allowed → no rule lets dana ask for/)
    const broken = await drawbridge(
      'policy',
      'replay',
      join(folder, 'new.yaml'),
      '--operations',
      file('broken.jsonl', '{"id":1}\n'),
    )
    expect(broken).toMatchObject({ status: 2 })
    expect(broken.err).toContain('line 1 is no operation')
  })
})
