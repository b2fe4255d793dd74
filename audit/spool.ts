import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Numbered } from './inbox.ts'
import type { Record } from './record.ts'

// One frame for what was appended together: length of the payload, CRC-32 of the payload, CRC-32 of these eight bytes (each four
// bytes, big endian; the last tells a frame that was never finished from a length that has gone bad), payload: a JSON array of [proxy, boot, n, at, body], body being the record's canonical JSON as a string. A crash while appending can
// leave any part of the frame unwritten, but nothing before it.
const FRAME_HEAD_BYTES = 12
const FRAME_BYTES_MAX = 64 << 20

/** The file cannot take more, or holds something that is not a spool. */
export class SpoolError extends Error {
  readonly code: 'ERR_SPOOL_FULL' | 'ERR_SPOOL_DAMAGED' | 'ERR_SPOOL_BROKEN'

  constructor(code: SpoolError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SpoolError'
    this.code = code
  }
}

/** The part of a file that a spool uses. */
export type SpoolFile = Pick<FileHandle, 'read' | 'write' | 'datasync' | 'truncate' | 'stat' | 'close'>

/** Records on the local disk, in order, until the database takes them. */
export interface Spool {
  /** How many bytes wait in it. */
  readonly bytes: number
  /** Resolves when the records are on the disk; when it rejects, none of them is or will be. */
  append(records: readonly Numbered[]): Promise<void>
  /** What was appended together at this place, and the place after it; nothing at the end. */
  read(from: number): Promise<{ readonly records: Numbered[]; readonly end: number }>
  /** Empties it, if nothing came after `end`. */
  clear(end: number): Promise<boolean>
  close(): Promise<void>
}

/**
 * Opens the spool in `path`, made for its owner alone if it is not there. A last frame that was being written when the process or
 * the machine died is cut off: its caller never heard that it was durable.
 * @param bytesMax what it may hold
 * @throws SpoolError `ERR_SPOOL_DAMAGED` for any other frame that does not hold: records were lost, and somebody must look
 */
export async function openSpool(
  path: string,
  bytesMax: number,
  openFile: typeof openSpoolFile = openSpoolFile,
): Promise<Spool> {
  const file = await openFile(path)
  let size = await checkedSize(file, path)
  /** An append failed and could not be undone, so what is at the end is unknown. */
  let broken: unknown
  /** Appending, reading and clearing take turns. */
  let turn: Promise<unknown> = Promise.resolve()

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = turn.then(work)
    turn = result.catch(() => {})
    return result
  }

  async function append(records: readonly Numbered[]): Promise<void> {
    if (broken) throw new SpoolError('ERR_SPOOL_BROKEN', `${path} is unusable until the next start`, { cause: broken })
    const bytes = frame(records)
    if (size + bytes.length > bytesMax) {
      throw new SpoolError(
        'ERR_SPOOL_FULL',
        `${path} holds ${size} of at most ${bytesMax} bytes; the database must come back first`,
      )
    }
    try {
      await writeAll(file, bytes, size)
      await file.datasync()
    } catch (cause) {
      await undo(cause)
      throw cause
    }
    size += bytes.length
  }

  // After a failed fsync the kernel may count the pages as clean although they are not on the disk, so a second fsync proves
  // nothing. The bytes are cut off again, and if even that fails the spool is not used any more.
  async function undo(cause: unknown): Promise<void> {
    try {
      await file.truncate(size)
      await file.datasync()
    } catch {
      broken = cause
    }
  }

  async function read(from: number): Promise<{ records: Numbered[]; end: number }> {
    if (from === size) return { records: [], end: from }
    const payload = await payloadAt(file, from, size)
    if (!payload) throw damaged(path, from)
    return { records: parsePayload(payload), end: from + FRAME_HEAD_BYTES + payload.length }
  }

  return {
    get bytes() {
      return size
    },
    append: records => inTurn(() => append(records)),
    read: from => inTurn(() => read(from)),
    clear: end =>
      inTurn(async () => {
        if (size !== end) return false
        await file.truncate(0)
        size = 0
        return true
      }),
    close: () => inTurn(() => file.close()),
  }
}

async function openSpoolFile(path: string): Promise<SpoolFile> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  // A new file is only there after a crash if its folder was synced as well.
  const folder = await open(dirname(path), 'r')
  await folder.sync().finally(() => folder.close())
  return file
}

/** Walks all frames; cuts a torn last one off. */
async function checkedSize(file: SpoolFile, path: string): Promise<number> {
  const { size } = await file.stat()
  let at = 0
  while (at < size) {
    const payload = await payloadAt(file, at, size)
    if (!payload) {
      if (!(await isLast(file, at, size))) throw damaged(path, at)
      await file.truncate(at)
      await file.datasync()
      return at
    }
    at += FRAME_HEAD_BYTES + payload.length
  }
  return size
}

/** The payload of the frame at `at`, if the frame is whole and sound. */
async function payloadAt(file: SpoolFile, at: number, size: number): Promise<Buffer | undefined> {
  const head = await headAt(file, at, size)
  if (!head || head.length > size - at - FRAME_HEAD_BYTES) return undefined
  const payload = Buffer.alloc(head.length)
  await readAll(file, payload, at + FRAME_HEAD_BYTES)
  return crc32(payload) === head.checksum ? payload : undefined
}

async function headAt(
  file: SpoolFile,
  at: number,
  size: number,
): Promise<{ length: number; checksum: number } | undefined> {
  if (size - at < FRAME_HEAD_BYTES) return undefined
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  await readAll(file, head, at)
  const sound = crc32(head.subarray(0, 8)) === head.readUInt32BE(8) && head.readUInt32BE(0) <= FRAME_BYTES_MAX
  return sound ? { length: head.readUInt32BE(0), checksum: head.readUInt32BE(4) } : undefined
}

/** Whether a frame that does not hold is the last one: its head is cut short, reaches to the end of the file or beyond, or nothing but zeros follows. */
async function isLast(file: SpoolFile, at: number, size: number): Promise<boolean> {
  const rest = size - at
  if (rest < FRAME_HEAD_BYTES) return true
  const head = await headAt(file, at, size)
  if (head) return head.length >= rest - FRAME_HEAD_BYTES
  if (rest > FRAME_BYTES_MAX + FRAME_HEAD_BYTES) return false
  const bytes = Buffer.alloc(rest)
  await readAll(file, bytes, at)
  return bytes.every(byte => byte === 0)
}

function damaged(path: string, at: number): SpoolError {
  const next = 'keep the file for inspection and move it away to start'
  return new SpoolError('ERR_SPOOL_DAMAGED', `${path}: the frame at byte ${at} does not hold; ${next}`)
}

function frame(records: readonly Numbered[]): Buffer {
  const rows = records.map(({ proxy, boot, n, at, body }) => [proxy, boot, n, at, body])
  const payload = Buffer.from(JSON.stringify(rows))
  if (payload.length > FRAME_BYTES_MAX) {
    throw new SpoolError(
      'ERR_SPOOL_FULL',
      `${payload.length} bytes do not fit in one frame of at most ${FRAME_BYTES_MAX}`,
    )
  }
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUInt32BE(payload.length, 0)
  head.writeUInt32BE(crc32(payload), 4)
  head.writeUInt32BE(crc32(head.subarray(0, 8)), 8)
  return Buffer.concat([head, payload])
}

function parsePayload(payload: Buffer): Numbered[] {
  const rows = JSON.parse(payload.toString()) as [string, string, number, number, string][]
  return rows.map(([proxy, boot, n, at, body]) => ({ proxy, boot, n, at, body, record: JSON.parse(body) as Record }))
}

async function writeAll(file: SpoolFile, bytes: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    written += (await file.write(bytes, written, bytes.length - written, position + written)).bytesWritten
  }
}

async function readAll(file: SpoolFile, bytes: Buffer, position: number): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done)
    if (bytesRead === 0) throw new SpoolError('ERR_SPOOL_DAMAGED', 'the spool became shorter while it was read')
    done += bytesRead
  }
}
