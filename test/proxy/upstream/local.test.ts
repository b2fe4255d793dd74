import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { beforeAll, describe, expect, test } from 'vitest'
import { localUpstream } from '../../../proxy/upstream/local.ts'
import { type Target, UpstreamError } from '../../../proxy/upstream/upstream.ts'
import { gitOk, makeRepository, noise, refsOf } from '../../support/git.ts'
import { temporaryFolder } from '../../support/program.ts'
import { eventually, folderUrl, upstreamSettings } from '../http/front.ts'

const folder = temporaryFolder('local')
let repository: string
let main: string
beforeAll(async () => {
  repository = await makeRepository(join(folder, 'team/app.git'), { commits: 5, branches: ['dev'], bytes: 200_000 })
  main = (await refsOf(repository))['refs/heads/main'] ?? ''
})

const connect = localUpstream(upstreamSettings(folderUrl(folder)))
const never = new AbortController().signal

function target(more: Partial<Target> = {}): Target {
  return {
    path: 'team/app',
    service: 'upload-pack',
    protocol: 0,
    stateless: true,
    principal: 'alice',
    operation: 'op-1',
    ...more,
  }
}

const pkt = (text: string) => `${(text.length + 4).toString(16).padStart(4, '0')}${text}`
const LS_REFS = `${pkt('command=ls-refs\n')}0001${pkt('ref-prefix refs/heads/\n')}0000`
const body = (text: string) => Readable.from([Buffer.from(text)])

async function text(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString('latin1')
}

/** Programs that still run in a repository of this test; `git` alone, not the shell that asks. */
function programs(): string[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .filter(pid => {
      try {
        return execFileSync('readlink', [`/proc/${pid}/cwd`], { stdio: ['ignore', 'pipe', 'ignore'] })
          .toString()
          .startsWith(folder)
      } catch {
        return false
      }
    })
}

describe('a stateless client', () => {
  test('gets advertisements without a preamble, of each protocol version', async () => {
    expect(await text(await connect(target()).advertise(never))).toMatch(/^[0-9a-f]{4}[0-9a-f]{40} HEAD\0[\s\S]*0000$/)
    expect(await text(await connect(target({ protocol: 1 })).advertise(never))).toMatch(/^000eversion 1\n/)
    expect(await text(await connect(target({ protocol: 2 })).advertise(never))).toMatch(/^000eversion 2\n[\s\S]*0000$/)
    const push = await text(await connect(target({ service: 'receive-pack' })).advertise(never))
    expect(push).toMatch(/report-status/)
  })

  test('exchanges without having asked for the advertisement', async () => {
    const upstream = connect(target({ protocol: 2 }))
    // Rounds of haves are requests of their own: git's programs take them so.
    expect(upstream.conversational).toBe(false)
    const answer = await upstream.exchange(body(LS_REFS), never)
    expect(await text(answer)).toContain(`${main} refs/heads/main`)
  })

  test('is told of a program that fails, and never as an end', async () => {
    const answer = await connect(target()).exchange(body('zzzz'), never)
    const error = await text(answer).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(UpstreamError)
    expect(error).toMatchObject({ code: 'failed', message: 'the Git host broke off' })
    expect((error as UpstreamError).detail).toMatch(/status 128: .*(bad line length|protocol error)/)
  })
})

describe('a conversation', () => {
  test('of protocol 2 goes on as long as the client asks', async () => {
    const upstream = connect(target({ protocol: 2, stateless: false }))
    expect(upstream.conversational).toBe(true)
    expect(await text(await upstream.advertise(never))).toMatch(/^000eversion 2\n[\s\S]*0000$/)
    for (let i = 0; i < 3; i++) {
      const answer = await upstream.exchange(body(LS_REFS), never)
      expect(await text(answer)).toMatch(/refs\/heads\/main\n0000$/)
    }
    const fetch = `${pkt('command=fetch')}0001${pkt('no-progress')}${pkt(`want ${main}\n`)}${pkt('done\n')}0000`
    const pack = await text(await upstream.exchange(body(fetch), never))
    expect(pack).toMatch(/^000dpackfile\n/)
    expect(pack.length).toBeGreaterThan(200_000)
    upstream.close()
    await eventually(programs).toEqual([])
  })

  test('may begin without the advertisement: it is read and dropped', async () => {
    const upstream = connect(target({ protocol: 2, stateless: false }))
    expect(await text(await upstream.exchange(body(LS_REFS), never))).toMatch(
      /^[0-9a-f]{4}[0-9a-f]{40} refs\/heads\/dev/,
    )
    upstream.close()
  })

  test('of protocol 0 is one talk in both directions', async () => {
    const upstream = connect(target({ stateless: false }))
    expect(await text(await upstream.advertise(never))).toMatch(/0000$/)
    const asking = new PassThrough()
    const answer = await upstream.exchange(asking, never)
    let got = ''
    answer.on('data', chunk => {
      got += chunk.toString('latin1')
    })
    asking.write(`${pkt(`want ${main} multi_ack_detailed no-done\n`)}0000${pkt(`have ${'1'.repeat(40)}\n`)}0000`)
    await eventually(() => got).toBe('0008NAK\n')
    asking.end(pkt('done\n'))
    await new Promise(resolve => answer.on('end', resolve))
    expect(got).toMatch(/^0008NAK\n0008NAK\nPACK/)
  })

  test('of a push ends with its report', async () => {
    const upstream = connect(target({ service: 'receive-pack', stateless: false }))
    await text(await upstream.advertise(never))
    const command = pkt(`${main} ${'0'.repeat(40)} refs/heads/dev\0report-status\n`)
    const wrong = await upstream.exchange(body(`${command}0000`), never)
    expect(await text(wrong)).toMatch(/unpack ok\n[\s\S]*ng refs\/heads\/dev/)
  })

  test('of an archive has no advertisement', async () => {
    const upstream = connect(target({ service: 'upload-archive', stateless: false }))
    expect(await text(await upstream.advertise(never))).toBe('')
    const answer = await text(
      await upstream.exchange(body(`${pkt('argument --format=tar\n')}${pkt('argument main\n')}0000`), never),
    )
    expect(answer).toMatch(/^0008ACK\n0000/)
    expect(answer).toContain('README')
  })
})

describe('the folder', () => {
  test.each(['none', 'team', 'team/app.git/objects', 'team/none/app', 'x'.repeat(300)])(
    '%s holds no repository',
    async path => {
      await expect(connect(target({ path })).advertise(never)).rejects.toMatchObject({
        code: 'not-found',
        message: 'there is no such repository',
      })
    },
  )

  test('may name its repositories without .git', async () => {
    await makeRepository(join(folder, 'plain'), { commits: 1 })
    expect(await text(await connect(target({ path: 'plain' })).advertise(never))).toContain('refs/heads/main')
  })

  test('is not left by a symbolic link; one that stays inside is followed', async () => {
    const outside = await makeRepository(join(temporaryFolder('outside'), 'secret.git'), { commits: 1 })
    symlinkSync(outside, join(folder, 'link.git'))
    symlinkSync(join(outside, '..'), join(folder, 'up'))
    symlinkSync(repository, join(folder, 'inside.git'))
    await expect(connect(target({ path: 'link' })).advertise(never)).rejects.toMatchObject({ code: 'not-found' })
    await expect(connect(target({ path: 'up/secret' })).advertise(never)).rejects.toMatchObject({ code: 'not-found' })
    expect(await text(await connect(target({ path: 'inside' })).advertise(never))).toContain('refs/heads/main')
  })

  test('with a repository inside a repository is refused: receive-pack would take the inner one', async () => {
    const outer = await makeRepository(join(folder, 'outer.git'), { commits: 1 })
    await makeRepository(join(outer, '.git'), { commits: 1 })
    await expect(connect(target({ path: 'outer' })).advertise(never)).rejects.toMatchObject({ code: 'not-found' })
  })

  test.skipIf(process.getuid?.() !== 0)('may belong to somebody else', async () => {
    const theirs = await makeRepository(join(folder, 'theirs.git'), { commits: 1 })
    execFileSync('chown', ['-R', '65534:65534', theirs])
    expect(await text(await connect(target({ path: 'theirs' })).advertise(never))).toContain('refs/heads/main')
    expect(await text(await connect(target({ path: 'theirs', service: 'receive-pack' })).advertise(never))).toContain(
      'refs/heads/main',
    )
  })
})

test('nothing of this process is told to git and its hooks but who, for what operation, and the way to programs', async () => {
  const hooked = await makeRepository(join(folder, 'hooked.git'), { commits: 2 })
  const seen = join(temporaryFolder('hook'), 'env')
  writeFileSync(join(hooked, 'hooks/pre-receive'), `#!/bin/sh\nenv > ${seen}\n`)
  chmodSync(join(hooked, 'hooks/pre-receive'), 0o755)
  process.env.DATABASE_PASSWORD = 's3cret'
  const old = (await refsOf(hooked))['refs/heads/main']
  const older = await gitOk(['rev-parse', 'main~1'], { cwd: hooked })
  const upstream = connect(target({ path: 'hooked', service: 'receive-pack' }))
  const command = pkt(`${old} ${older} refs/heads/main\0report-status\n`)
  const pack = execFileSync('git', ['pack-objects', '--stdout'], {
    cwd: hooked,
    input: '',
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const answer = await upstream.exchange(Readable.from([Buffer.from(`${command}0000`), pack]), never)
  delete process.env.DATABASE_PASSWORD
  expect(await text(answer)).toContain('ok refs/heads/main')
  const environment = execFileSync('cat', [seen]).toString()
  expect(environment).toContain('DRAWBRIDGE_PRINCIPAL=alice\n')
  expect(environment).toContain('DRAWBRIDGE_OPERATION=op-1\n')
  expect(environment).not.toContain('s3cret')
  expect(environment).not.toMatch(/^HOME=(?!\/nonexistent$)/m)
})

describe('an end', () => {
  const slow = async (name: string) => {
    const path = await makeRepository(join(folder, `${name}.git`), { commits: 2, bytes: 8 << 20 })
    return { path, tip: (await refsOf(path))['refs/heads/main'] ?? '' }
  }

  test('by the signal kills git and its children', async () => {
    const { tip } = await slow('killed')
    const cut = new AbortController()
    const upstream = connect(target({ path: 'killed', protocol: 2 }))
    const fetch = `${pkt('command=fetch')}0001${pkt(`want ${tip}\n`)}${pkt('done\n')}0000`
    const answer = await upstream.exchange(body(fetch), cut.signal)
    await new Promise(resolve => answer.once('readable', resolve))
    expect(programs().length).toBeGreaterThan(0)
    const ended = text(answer).catch((reason: unknown) => reason)
    cut.abort()
    expect(await ended).toBeInstanceOf(UpstreamError)
    await eventually(programs).toEqual([])
  })

  test('by close(), by letting go of the answer, or by a request that breaks off, leaves no program behind', async () => {
    await makeRepository(join(folder, 'left.git'), { commits: 1 })
    const closed = connect(target({ path: 'left', stateless: false, protocol: 2 }))
    await text(await closed.advertise(never))
    closed.close()
    closed.close()

    const waiting = await connect(target({ path: 'left' })).exchange(new PassThrough(), never)
    waiting.on('error', () => {})
    waiting.destroy()

    const request = new PassThrough()
    const broken = await connect(target({ path: 'left', service: 'receive-pack' })).exchange(request, never)
    request.on('error', () => {})
    request.write('00')
    request.destroy(new Error('the client left'))
    await expect(text(broken)).rejects.toBeInstanceOf(UpstreamError)
    await eventually(programs).toEqual([])
  })

  test('before anybody has read the answer is told to whoever reads it then, and to nobody else', async () => {
    const { tip } = await slow('unread')
    // More than a pipe holds: git cannot come to its end before it is cut.
    const fetch = `${pkt('command=fetch')}0001${pkt(`want ${tip}\n`)}${pkt('done\n')}0000`
    for (const stateless of [true, false]) {
      const cut = new AbortController()
      const upstream = connect(target({ path: 'unread', stateless, protocol: 2 }))
      const answer = await upstream.exchange(body(fetch), cut.signal)
      cut.abort()
      await eventually(() => programs()).toEqual([])
      await expect(text(answer)).rejects.toBeInstanceOf(UpstreamError)
    }
  })

  test('a push that breaks off before its last byte changes nothing and leaves nothing half-written', async () => {
    const { path, tip } = await slow('cut')
    const work = join(temporaryFolder('cut'), 'work')
    await gitOk(['clone', '-q', path, work])
    writeFileSync(join(work, 'large'), noise(2 << 20, 7))
    await gitOk(['add', '.'], { cwd: work })
    await gitOk(['commit', '-q', '-m', 'large'], { cwd: work })
    const id = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
    const pack = execFileSync('git', ['pack-objects', '--stdout', '--revs', '-q'], {
      cwd: work,
      input: `${id}\n^${tip}\n`,
      maxBuffer: 64 << 20,
    })
    const request = new PassThrough({ highWaterMark: 16 << 20 })
    const answer = await connect(target({ path: 'cut', service: 'receive-pack' })).exchange(request, never)
    request.on('error', () => {})
    request.write(`${pkt(`${tip} ${id} refs/heads/main\0report-status\n`)}0000`)
    request.write(pack.subarray(0, -1))
    const ended = text(answer).catch((reason: unknown) => reason)
    await eventually(() =>
      readdirSync(join(path, 'objects')).some(name => name.startsWith('tmp_objdir-incoming')),
    ).toBe(true)
    request.destroy()
    expect(await ended).toBeInstanceOf(UpstreamError)
    await eventually(programs).toEqual([])
    expect((await refsOf(path))['refs/heads/main']).toBe(tip)
    expect(readdirSync(join(path, 'objects')).filter(name => name.startsWith('tmp_'))).toEqual([])
  })

  test('of a git that says nothing comes by the timeout, hooks included', async () => {
    const stuck = await makeRepository(join(folder, 'stuck.git'), { commits: 2, config: { 'receive.keepAlive': '0' } })
    writeFileSync(join(stuck, 'hooks/pre-receive'), '#!/bin/sh\nsleep 600\n')
    chmodSync(join(stuck, 'hooks/pre-receive'), 0o755)
    const impatient = localUpstream({ ...upstreamSettings(folderUrl(folder)), idleTimeout: 300 })
    const tip = (await refsOf(stuck))['refs/heads/main']
    const command = pkt(`${tip} ${'0'.repeat(40)} refs/heads/main\0report-status\n`)
    const answer = await impatient(target({ path: 'stuck', service: 'receive-pack' })).exchange(
      body(`${command}0000`),
      never,
    )
    await expect(text(answer)).rejects.toMatchObject({ code: 'timeout' })
    await eventually(programs).toEqual([])
  })
})

test('a folder that is not there is told as a host that cannot be reached', async () => {
  const missing = join(folder, 'missing')
  mkdirSync(missing)
  const upstream = localUpstream(upstreamSettings(folderUrl(join(missing, 'gone'))))(target())
  await expect(upstream.advertise(never)).rejects.toMatchObject({ code: 'unreachable' })
  expect(existsSync(join(missing, 'gone'))).toBe(false)
})
