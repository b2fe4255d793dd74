import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { FLUSH, line, packet } from '../../../proxy/git/pktline.ts'
import { type RefUpdate, readCommands } from '../../../proxy/git/refupdate.ts'
import { type GitResult, git } from '../../support/git.ts'
import { temporaryFolder } from '../../support/program.ts'
import { chunks } from './split.ts'

// The same bytes for stock git and for the parser: what git does with them must be what the parser said.

const ZERO = '0'.repeat(40)
const HEADER = Buffer.from('PACK\0\0\0\x02\0\0\0\0', 'latin1')
const EMPTY_PACK = Buffer.concat([HEADER, createHash('sha1').update(HEADER).digest()])

let repository: string
let commit: string

beforeAll(async () => {
  repository = join(temporaryFolder('receive-pack'), 'r.git')
  await git(['init', '--bare', '-q', repository])
  await git(['config', 'receive.advertisePushOptions', 'true'], { cwd: repository })
  const tree = (await git(['hash-object', '-wt', 'tree', '--stdin'], { cwd: repository, input: '' })).stdout.trim()
  commit = (await git(['commit-tree', tree, '-m', 'x'], { cwd: repository })).stdout.trim()
})

function refs(): string[] {
  return readdirSync(join(repository, 'refs'), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(repository.length + 1))
    .sort()
}

/** What stock git does with these bytes, from a repository without refs: its answer, and the refs it made. */
async function receive(bytes: Buffer): Promise<{ answer: GitResult; made: string[] }> {
  rmSync(join(repository, 'refs'), { recursive: true })
  mkdirSync(join(repository, 'refs'))
  const answer = await git(['receive-pack', '--stateless-rpc', repository], { input: bytes })
  return { answer, made: refs() }
}

async function parse(bytes: Buffer): Promise<readonly RefUpdate[] | { code: string }> {
  return readCommands(chunks(bytes)).then(
    commands => commands.updates,
    (error: { code: string }) => error,
  )
}

function list(...packets: (string | Buffer)[]): Buffer {
  return Buffer.concat(packets.map(each => (typeof each === 'string' ? line(each) : each)))
}

describe('stock receive-pack and the parser', () => {
  test('git makes no ref the parser did not tell of, whatever the bytes', async () => {
    const mostly = <T>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<T>) =>
      fc.oneof({ weight: 8, arbitrary: usual }, { weight: 1, arbitrary: rare })
    const ref = mostly(
      fc.constantFrom('refs/heads/a', 'refs/heads/b', 'refs/tags/t', 'refs/for/x', 'refs/heads/é'),
      fc.constantFrom('refs/heads/x\n', 'HEAD', 'refs/a', 'refs/heads/a/b'),
    )
    const caps = mostly(
      fc.constantFrom('', '\0report-status', '\0 atomic object-format=sha1 push-cert=x'),
      fc.constantFrom('\0 push-options', '\0report-status\0x', '\0object-format=sha256'),
    )
    const command = fc.tuple(ref, caps).map(([name, asked]) => `${ZERO} ${commit} ${name}${asked}`)
    const cased = command.map(text => packet(Buffer.from(text.replace(commit, commit.toUpperCase()))))
    const plain: fc.Arbitrary<string | Buffer> = fc.oneof(command, cased)
    const odd = fc.constantFrom('', 'push-cert', 'push-cert-end', `shallow ${ZERO}`, 'option', Buffer.from('0004'))
    const part = mostly(plain, odd)
    const end = mostly(fc.constant(FLUSH), fc.constantFrom(...['0001', '0002', ''].map(text => Buffer.from(text))))
    const behind = mostly(fc.constant<(string | Buffer)[]>([]), fc.array(part, { maxLength: 2 }))
    const options = mostly(fc.constant(false), fc.constant(true))
    let landed = 0
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 4 }), end, behind, options, async (first, close, second, option) => {
        const bytes = list(...first, close, ...(option ? ['option', FLUSH] : []), ...second, EMPTY_PACK)
        const updates = await parse(bytes)
        // What the parser refuses never reaches git.
        if ('code' in updates) return
        const { made } = await receive(bytes)
        landed += made.length
        const told = updates.map(update => update.ref)
        for (const name of made) expect(told).toContain(name)
      }),
      { numRuns: 120 },
    )
    expect(landed).toBeGreaterThan(0)
  })

  test('a plain push does in git what the parser says, ids in upper case and capabilities on the second line included', async () => {
    const bytes = list(
      `${ZERO} ${commit.toUpperCase()} refs/heads/a`,
      `${ZERO} ${commit} refs/heads/b\0report-status push-options`,
      FLUSH,
      'option',
      FLUSH,
      EMPTY_PACK,
    )
    const { answer, made } = await receive(bytes)
    expect(answer.stdout).toContain('ok refs/heads/b')
    expect(made).toEqual(['refs/heads/a', 'refs/heads/b'])
    expect(readFileSync(join(repository, 'refs/heads/a'), 'utf8').trim()).toBe(commit)
    expect(await parse(bytes)).toEqual(
      ['a', 'b'].map(name => ({ ref: `refs/heads/${name}`, old: ZERO, new: commit, kind: 'create' })),
    )
  })

  test('git runs the commands of a push certificate nobody asked for; the parser refuses them', async () => {
    const certificate = [
      ...['certificate version 0.1\n', 'pusher x\n', 'nonce 1\n', '\n', `${ZERO} ${commit} refs/heads/hidden\n`],
      ...['-----BEGIN SSH SIGNATURE-----\n', 'push-cert-end\n'],
    ].map(text => packet(Buffer.from(text)))
    const bytes = list(`${ZERO} ${commit} refs/heads/a\0report-status`, 'push-cert', ...certificate, FLUSH, EMPTY_PACK)
    expect((await receive(bytes)).made).toContain('refs/heads/hidden')
    expect(await parse(bytes)).toMatchObject({ code: 'ERR_PUSH_CERT' })
  })

  test.each(['0001', '0002'])('git ends the commands at %s as well; the parser refuses it', async end => {
    const bytes = list(`${ZERO} ${commit} refs/heads/a`, Buffer.from(end), EMPTY_PACK)
    expect((await receive(bytes)).made).toEqual(['refs/heads/a'])
    expect(await parse(bytes)).toMatchObject({ code: 'ERR_PUSH_SECTION' })
  })

  test.each([
    ['fff3', true],
    ['fff4', false],
    ['0003', false],
  ])('a packet of length %s is taken by both: %s', async (length, taken) => {
    const command = `${ZERO} ${commit} refs/heads/a\0`
    const size = Math.max(4, Number.parseInt(length, 16))
    const text = `${command}${'x'.repeat(Math.max(0, size - 4 - command.length))}`
    const bytes = list(Buffer.from(`${length}${text}`), FLUSH, EMPTY_PACK)
    expect((await receive(bytes)).made).toEqual(taken ? ['refs/heads/a'] : [])
    expect('code' in (await parse(bytes))).toBe(!taken)
  })
})
