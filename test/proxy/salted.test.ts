import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe, expect, test } from 'vitest'
import { TRAILER_BYTES } from '../../proxy/git/objectid.ts'
import { heldPack } from '../../proxy/heldpack.ts'
import { cloneRepository, commitFile, gitEnvironment, gitOk, makeRepository, refsOf } from '../support/git.ts'
import { temporaryFolder } from '../support/program.ts'
import { commandSection, packOf } from '../support/wire.ts'

// A pack that goes to the host has one object more than its client sent. Stock git must not mind, however strict it is told to be.

type Format = 'sha1' | 'sha256'

async function host(format: Format, config: { [key: string]: string } = {}) {
  const bare = await makeRepository(join(temporaryFolder('host'), 'app.git'), { objectFormat: format, config })
  const work = await cloneRepository(bare)
  return { bare, work, main: (await refsOf(bare))['refs/heads/main']! }
}

/** Gives git receive-pack a push as the gate does, and gives what it reports. */
async function receive(
  bare: string,
  format: Format,
  asked: { readonly old: string; readonly new: string; readonly ref: string },
  pack: Buffer,
): Promise<string> {
  const capabilities = `report-status object-format=${format}`
  const body = heldPack({
    commands: commandSection([asked], capabilities),
    hasPack: true,
    pack: Readable.from([pack]),
    trailerBytes: TRAILER_BYTES[format],
    endsBy: 'end',
    release: async whole => whole,
  })
  const child = spawn('git', ['receive-pack', '--stateless-rpc', bare], { env: gitEnvironment() })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      said += chunk
    })
  }
  const ended = new Promise(resolve => child.on('close', resolve))
  await pipeline(body, child.stdin).catch(() => {})
  await ended
  return said
}

/** The objects nothing leads to: each with its type and size. */
async function dangling(bare: string): Promise<string[]> {
  const found = await gitOk(['fsck', '--strict', '--unreachable', '--no-progress'], { cwd: bare })
  const ids = found
    .split('\n')
    .filter(Boolean)
    .map(line => line.split(' ')[2]!)
  return await Promise.all(
    ids.map(
      async id =>
        `${await gitOk(['cat-file', '-t', id], { cwd: bare })} ${await gitOk(['cat-file', '-s', id], { cwd: bare })}`,
    ),
  )
}

const ways: [Format, 'true' | 'false', string][] = (['sha1', 'sha256'] as const).flatMap(format =>
  (['true', 'false'] as const).flatMap(fsck =>
    ['1', '1000'].map((limit): [Format, 'true' | 'false', string] => [format, fsck, limit]),
  ),
)

describe.each(ways)('a host of %s with receive.fsckObjects=%s and receive.unpackLimit=%s', (format, fsck, limit) => {
  const config = { 'receive.fsckObjects': fsck, 'receive.unpackLimit': limit }

  // A host that is strict refuses a pack with an object twice: the one that is added must be in no pack already.
  test('takes a push with an empty file in it, and one of files like each other', async () => {
    const { bare, work, main } = await host(format, config)
    await commitFile(work, '.gitkeep', '')
    const text = Array.from({ length: 400 }, (_, n) => `line ${n}\n`).join('')
    for (let n = 0; n < 4; n++) await commitFile(work, 'alike', `${text}${n}\n`)
    const now = await gitOk(['rev-parse', 'HEAD'], { cwd: work })
    const pack = await packOf(work, ['HEAD', '^origin/main'], ['--delta-base-offset'])
    const said = await receive(bare, format, { old: main, new: now, ref: 'refs/heads/main' }, pack)
    expect(said).toContain('unpack ok')
    expect(said).toContain('ok refs/heads/main')
    expect((await refsOf(bare))['refs/heads/main']).toBe(now)
    expect(await gitOk(['cat-file', '-s', `${now}:.gitkeep`], { cwd: bare })).toBe('0')
    expect(await dangling(bare)).toEqual(['blob 15'])
  })

  test('takes a pack without objects, and one that leans on what the host has', async () => {
    const { bare, work, main } = await host(format, config)
    const zero = '0'.repeat(main.length)
    const empty = await packOf(work, ['HEAD', '^HEAD'])
    expect(empty.readUInt32BE(8)).toBe(0)
    expect(await receive(bare, format, { old: zero, new: main, ref: 'refs/heads/same' }, empty)).toContain(
      'ok refs/heads/same',
    )

    const text = Array.from({ length: 2_000 }, (_, n) => `line ${n}\n`).join('')
    const first = await commitFile(work, 'big', text)
    await receive(
      bare,
      format,
      { old: main, new: first, ref: 'refs/heads/main' },
      await packOf(work, [first, `^${main}`]),
    )
    const second = await commitFile(work, 'big', `${text}one more\n`)
    const thin = await packOf(work, [second, `^${first}`], ['--thin'])
    expect(thin.length).toBeLessThan(1_000)
    await receive(bare, format, { old: first, new: second, ref: 'refs/heads/main' }, thin)
    expect((await refsOf(bare))['refs/heads/main']).toBe(second)
    // Three pushes by one process leave one object behind.
    expect(await dangling(bare)).toEqual(['blob 15'])
  })
})
