import { describe, expect, test } from 'vitest'
import { FLUSH, line, packet } from '../../../proxy/git/pktline.ts'
import { type Commands, CommandsRefused, readCommands } from '../../../proxy/git/refupdate.ts'
import { chunks, collect, splitAt, trickle } from './split.ts'

const ZERO = '0'.repeat(40)
const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const CAPS = '\0 report-status side-band-64k object-format=sha1 agent=git/2.39.5'

function list(...packets: (string | Buffer)[]): Buffer {
  return Buffer.concat(packets.map(each => (typeof each === 'string' ? line(each) : each)))
}

function read(...packets: (string | Buffer)[]): Promise<Commands> {
  return readCommands(chunks(list(...packets)))
}

function refused(...packets: (string | Buffer)[]): Promise<{ code: string }> {
  return read(...packets).then(
    () => ({ code: 'not refused' }),
    (error: { code: string }) => error,
  )
}

describe('the commands of a push', () => {
  const wire = list(
    `shallow ${B}`,
    `${ZERO} ${A} refs/heads/new${CAPS} push-options`,
    `${A} ${B} refs/heads/main`,
    `${B} ${ZERO} refs/heads/old`,
    FLUSH,
    'ci.skip',
    'reviewer=a;b',
    FLUSH,
  )

  async function check(commands: Commands): Promise<void> {
    expect(commands.updates).toEqual([
      { ref: 'refs/heads/new', old: ZERO, new: A, kind: 'create' },
      { ref: 'refs/heads/main', old: A, new: B, kind: 'update' },
      { ref: 'refs/heads/old', old: B, new: ZERO, kind: 'delete' },
    ])
    expect(commands.shallows).toEqual([B])
    expect(commands.pushOptions).toEqual(['ci.skip', 'reviewer=a;b'])
    expect(commands.capabilities.get('agent')).toBe('git/2.39.5')
    expect(commands).toMatchObject({ probe: false, hasPack: true, objectFormat: 'sha1' })
    expect(commands.raw).toEqual(wire)
    expect((await collect(commands.pack)).toString()).toBe('PACK...')
  }

  test('are the same wherever the bytes are split, and the pack is untouched', async () => {
    const bytes = Buffer.concat([wire, Buffer.from('PACK...')])
    for (let at = 0; at <= bytes.length; at++) await check(await readCommands(splitAt(bytes, at)))
  })

  test('are the same one byte at a time', async () => {
    await check(await readCommands(trickle(Buffer.concat([wire, Buffer.from('PACK...')]))))
  })

  test('a lone flush packet is a probe', async () => {
    expect(await read(FLUSH)).toMatchObject({ probe: true, updates: [], hasPack: false, raw: FLUSH })
  })

  test('deletions alone have no pack', async () => {
    expect(await read(`${A} ${ZERO} refs/heads/x${CAPS}`, FLUSH)).toMatchObject({ hasPack: false })
  })

  test('upper-case lengths and ids are read as git reads them, and ids given in lower case', async () => {
    const bytes = Buffer.from(packet(Buffer.from(`${ZERO} ${A.toUpperCase()} refs/heads/x\0report-status`)))
    const upper = Buffer.concat([Buffer.from(bytes.toString('latin1', 0, 4).toUpperCase()), bytes.subarray(4)])
    const commands = await read(upper, FLUSH)
    expect(commands.updates).toEqual([{ ref: 'refs/heads/x', old: ZERO, new: A, kind: 'create' }])
    expect(commands.raw).toEqual(list(upper, FLUSH))
  })

  test('a repository of sha256 has ids of 64 digits, and one of sha1 has not', async () => {
    const [zero, id] = ['0'.repeat(64), 'c'.repeat(64)]
    const commands = await read(`${zero} ${id} refs/heads/x\0object-format=sha256`, FLUSH)
    expect(commands).toMatchObject({ objectFormat: 'sha256', updates: [{ kind: 'create', new: id }] })
    expect(await refused(`${zero} ${id} refs/heads/x\0report-status`, FLUSH)).toMatchObject({
      code: 'ERR_PUSH_COMMAND',
    })
    expect(await refused(`${ZERO} ${A} refs/heads/x\0object-format=sha256`, FLUSH)).toMatchObject({
      code: 'ERR_PUSH_COMMAND',
    })
    expect(await refused(`${ZERO} ${A} refs/heads/x\0object-format=sha512`, FLUSH)).toMatchObject({
      code: 'ERR_PUSH_OBJECT_FORMAT',
    })
  })

  test('capabilities that only the second line asks for are heeded, as by git', async () => {
    const commands = await read(
      `${ZERO} ${A} refs/heads/x`,
      `${ZERO} ${A} refs/heads/y\0push-options`,
      FLUSH,
      'o',
      FLUSH,
    )
    expect(commands.pushOptions).toEqual(['o'])
  })
})

describe('what is tried with the commands of a push', () => {
  const command = `${ZERO} ${A} refs/heads/granted${CAPS}`
  const certificate = [
    'certificate version 0.1\n',
    '\n',
    `${ZERO} ${A} refs/heads/hidden\n`,
    '-----BEGIN SSH SIGNATURE-----\n',
  ]

  test('a push certificate nobody asked for, whose commands git would run as well', async () => {
    const block = [...certificate.map(each => packet(Buffer.from(each))), packet(Buffer.from('push-cert-end\n'))]
    for (const head of ['push-cert', `push-cert${CAPS}`, 'push-cert\0']) {
      expect(await refused(command, head, ...block, FLUSH)).toMatchObject({ code: 'ERR_PUSH_CERT' })
      expect(await refused(head, ...block, command, FLUSH)).toMatchObject({ code: 'ERR_PUSH_CERT' })
      expect(await refused(`shallow ${A}`, head, ...block, FLUSH)).toMatchObject({ code: 'ERR_PUSH_CERT' })
    }
    expect(await refused(command, packet(Buffer.from('push-cert')), ...block, FLUSH)).toMatchObject({
      code: 'ERR_PUSH_CERT',
    })
  })

  test.each([
    ['a delimiter', Buffer.from('0001')],
    ['a response-end', Buffer.from('0002')],
    ['the end of the input', Buffer.alloc(0)],
  ])('%s in the place of the flush packet', async (_what, end) => {
    expect(await refused(command, end)).toMatchObject({ code: 'ERR_PUSH_SECTION' })
  })

  test('an empty body', async () => {
    expect(await refused()).toMatchObject({ code: 'ERR_PUSH_EMPTY' })
  })

  test('a decoy ref behind a second NUL', async () => {
    const decoy = `${ZERO} ${A} refs/heads/hidden\0report-status\0refs/heads/granted`
    expect(await refused(decoy, FLUSH)).toMatchObject({ code: 'ERR_PUSH_NUL' })
  })

  test.each([
    ['an empty packet', packet(Buffer.alloc(0))],
    ['a line feed alone', '' as string | Buffer],
    ['one blank too many', `${ZERO}  ${A} refs/heads/x`],
    ['no ref', `${ZERO} ${A} `],
    ['a short id', `${ZERO} ${A.slice(1)} refs/heads/x`],
    ['a tab for a blank', `${ZERO}\t${A} refs/heads/x`],
    ['a ref that is no UTF-8', packet(Buffer.from(`${ZERO} ${A} refs/heads/\xff`, 'latin1'))],
    ['a client that says ERR', 'ERR go away'],
  ])('%s is no command', async (_what, bytes) => {
    expect(await refused(command, bytes, FLUSH)).toMatchObject({ code: 'ERR_PUSH_COMMAND' })
  })

  test('a shallow line with something behind its id', async () => {
    expect(await refused(`shallow ${A} ${B} refs/heads/x`, command, FLUSH)).toMatchObject({ code: 'ERR_PUSH_SHALLOW' })
    expect(await refused(`shallow ${A}\0push-cert`, command, FLUSH)).toMatchObject({ code: 'ERR_PUSH_SHALLOW' })
  })

  test('more commands, or more bytes of them, than the bounds', async () => {
    const options = { commands: 2 }
    const three = ['x', 'y', 'z'].map(name => `${ZERO} ${A} refs/heads/${name}`)
    await expect(readCommands(chunks(list(...three, FLUSH)), options)).rejects.toMatchObject({
      code: 'ERR_PUSH_COMMANDS_MAX',
    })
    await expect(readCommands(chunks(list(...three, FLUSH)), { bytes: 200 })).rejects.toMatchObject({
      code: 'ERR_PKT_LIMIT',
    })
  })

  test('100,000 commands are given up at the bound', async () => {
    const many = Array.from({ length: 100_000 }, (_, n) => line(`${ZERO} ${A} refs/heads/b${n}`))
    expect(await refused(Buffer.concat(many), FLUSH)).toMatchObject({ code: 'ERR_PUSH_COMMANDS_MAX' })
  })

  test('push options with line ends, NUL, too many or too long; a semicolon is data', async () => {
    const asked = `${command} push-options`
    for (const option of ['a\rb', 'a\nb', 'a\0b', 'a\x1b[2J']) {
      expect(await refused(asked, FLUSH, option, FLUSH)).toMatchObject({ code: 'ERR_PUSH_OPTION' })
    }
    expect(await refused(asked, FLUSH, 'x'.repeat(4096), FLUSH)).toMatchObject({ code: 'ERR_PUSH_OPTION' })
    const thousand = Array.from({ length: 1000 }, () => 'x')
    expect(await refused(asked, FLUSH, ...thousand, FLUSH)).toMatchObject({ code: 'ERR_PUSH_OPTIONS_MAX' })
  })

  test('push options announced and absent; absent and sent, where they are left to be taken for the pack', async () => {
    expect(await refused(`${command} push-options`, FLUSH, Buffer.from('PACK'))).toMatchObject({
      code: 'ERR_PKT_LENGTH',
    })
    expect(await refused(`${command} push-options`, FLUSH)).toMatchObject({ code: 'ERR_PUSH_SECTION' })
    const commands = await read(command, FLUSH, 'sneaky', FLUSH)
    expect(commands.pushOptions).toEqual([])
    expect((await collect(commands.pack)).toString()).toBe('000bsneaky\n0000')
  })

  test('refs nobody may write are told one by one, so that git can show each', async () => {
    const replace = `refs/replace/${A}`
    const error = await read(
      command,
      `${ZERO} ${A} ${replace}`,
      `${ZERO} ${A} refs/heads/a..b`,
      `${ZERO} ${A} refs/heads/twice`,
      `${ZERO} ${B} refs/heads/twice`,
      FLUSH,
    ).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CommandsRefused)
    const { commands, reasons } = error as CommandsRefused
    expect([...reasons.keys()]).toEqual([replace, 'refs/heads/a..b', 'refs/heads/twice'])
    expect(commands.updates).toHaveLength(5)
    expect(commands.capabilities.has('report-status')).toBe(true)
  })
})
