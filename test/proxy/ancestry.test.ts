import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isForward } from '../../proxy/ancestry.ts'
import { Inquiry } from '../../proxy/inquiry.ts'
import { Quarantine, Unproved } from '../../proxy/quarantine.ts'
import { localUpstream } from '../../proxy/upstream/local.ts'
import { git } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { folderUrl, upstreamSettings } from './http/front.ts'

const folder = temporaryFolder('ancestry')
const host = join(folder, 'host.git')
const work = join(folder, 'work')
const commits = new Map<string, string>()

async function run(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await git(args, { cwd: work })
  if (status !== 0) throw new Error(stderr)
  return stdout.trim()
}

async function commit(name: string, ...parents: string[]): Promise<void> {
  const tree = await run('rev-parse', `${commits.get('a') ?? 'HEAD'}^{tree}`)
  const id = await run('commit-tree', tree, '-m', name, ...parents.flatMap(parent => ['-p', commits.get(parent)!]))
  commits.set(name, id)
}

// The host has  a - b - c  and  a - side;  only the client has  d (c), m (c, side), e (b), lone (no parent).
beforeAll(async () => {
  await git(['init', '-q', '--bare', host])
  await git(['-C', host, 'config', 'uploadpack.allowFilter', 'true'])
  await git(['init', '-q', work])
  await run('commit', '-q', '--allow-empty', '-m', 'a')
  commits.set('a', await run('rev-parse', 'HEAD'))
  await commit('b', 'a')
  await commit('c', 'b')
  await commit('side', 'a')
  await run('push', '-q', host, `${commits.get('c')}:refs/heads/main`, `${commits.get('side')}:refs/heads/side`)
  await commit('d', 'c')
  await commit('d2', 'd')
  await commit('m', 'c', 'side')
  await commit('e', 'b')
  await commit('lone')
})

const open: Quarantine[] = []
afterAll(() => Promise.all(open.map(each => each.close())))

/** A quarantine that was given bytes in chunks of an odd size, and whether git took them for a pack. */
async function quarantineOf(bytes: Buffer, most = 1 << 20): Promise<{ quarantine: Quarantine; whole: boolean }> {
  const quarantine = await Quarantine.open(folder, 'sha1')
  open.push(quarantine)
  const incoming = quarantine.receive(most)
  for (let at = 0; at < bytes.length; at += 37) await incoming.write(bytes.subarray(at, at + 37))
  return { quarantine, whole: await incoming.end() }
}

/** Holds the pack git would push for `tip`. */
async function packed(tip: string): Promise<Quarantine> {
  const name = join(folder, tip)
  const revs = `${commits.get(tip)}\n^${commits.get('c')}\n^${commits.get('side')}\n`
  const { status, stdout } = await git(['-C', work, 'pack-objects', '--revs', '-q', name], { input: revs })
  expect(status).toBe(0)
  const { quarantine, whole } = await quarantineOf(readFileSync(`${name}-${stdout.trim()}.pack`))
  expect(whole).toBe(true)
  return quarantine
}

const signal = new AbortController().signal
const inquiries: Inquiry[] = []
afterAll(() => {
  for (const inquiry of inquiries) inquiry.close()
})
const ask = async () => {
  const inquiry = await Inquiry.open(
    localUpstream(upstreamSettings(folderUrl(folder))),
    { path: 'host', principal: 'alice', operation: 'op-1' },
    signal,
  )
  inquiries.push(inquiry)
  return inquiry
}

const cases: [string, string, boolean][] = [
  ['c', 'd', true],
  ['b', 'd', true],
  ['a', 'd2', true],
  ['side', 'd', false],
  ['side', 'm', true],
  ['c', 'm', true],
  ['c', 'e', false],
  ['b', 'e', true],
  ['c', 'lone', false],
]

for (const [old, tip, forward] of cases) {
  test(`from ${old} to ${tip} is ${forward ? '' : 'not '}a step forward, told from the pack and what lies between`, async () => {
    expect(await isForward(await packed(tip), commits.get(old)!, commits.get(tip)!, ask)).toBe(forward)
  })
}

test('a branch reset to a commit the host already has is told without a pack', async () => {
  const pack = await packed('d')
  expect(await isForward(pack, commits.get('c')!, commits.get('b')!, ask)).toBe(false)
  expect(await isForward(pack, commits.get('b')!, commits.get('c')!, ask)).toBe(true)
  expect(await isForward(pack, commits.get('a')!, commits.get('c')!, ask)).toBe(true)
})

test('what is no pack is none', async () => {
  expect((await quarantineOf(Buffer.from('PACKrubbish'))).whole).toBe(false)
})

test('a pack beyond the bound is not kept', async () => {
  expect((await quarantineOf(Buffer.alloc(64 << 10, 1), 100)).whole).toBe(false)
})

test('a quarantine that was given up proves nothing more', async () => {
  const pack = await packed('d')
  pack.stop()
  await expect(isForward(pack, commits.get('b')!, commits.get('d')!, ask)).rejects.toThrow(Unproved)
})

test('symbolic refs are named with what they point to', async () => {
  await git(['-C', host, 'symbolic-ref', 'refs/heads/alias', 'refs/heads/main'])
  const inquiry = await ask()
  const found = await inquiry.symbolic(['refs/heads/alias', 'refs/heads/side'])
  expect([...found]).toEqual([['refs/heads/alias', 'refs/heads/main']])
})
