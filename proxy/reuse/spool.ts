import { randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { crc32 } from 'node:zlib'

/** Names of spool files begin so; what a crash left of them is taken away by this. */
export const SPOOL_PREFIX = 'drawbridge-reuse-'

/** How much is written, checked and read at a time: what a slow reader holds of memory. */
const SEGMENT_BYTES = 128 << 10
/** How much disk is asked for at a time, and the least a spool begins with. */
export const STEP_BYTES = 1 << 20
/** What may wait for the disk before the host is made to wait. */
const PENDING_BYTES_MAX = 512 << 10
/** The newest bytes stay in memory for a moment: who keeps up reads nothing from the disk. */
const RECENT_BYTES_MAX = 1 << 20
/** How long, in all, slow readers may hold up the others once the disk is full. */
const PATIENCE_MILLISECONDS = 5_000

/** Who says how much disk may be used. */
export interface Disk {
  /** Takes so many bytes, or says that there are not as many. */
  take(bytes: number): boolean
  give(bytes: number): void
}

interface Segment {
  readonly length: number
  readonly checksum: number
  /** While it is new. */
  bytes: Buffer | undefined
}

/** Why a spool could not go on: the disk, or a reader that was too slow for it. */
export class SpoolError extends Error {}

/**
 * An answer on its way through a file: written once, read by many, each at its own pace.
 *
 * The file has no name once it is open, so nothing is left of it when the process ends, however it ends. As long as there
 * is disk the writer waits for nobody. When there is no more, the spool *slides*: what every reader has read makes place
 * for what is to come, and who is too far behind is let go of. A spool that slides takes no new readers.
 */
export class Spool {
  readonly #folder: string
  readonly #disk: Disk
  readonly #onIdle: () => void
  #file: FileHandle | undefined
  readonly #segments: Segment[] = []
  /** How many segments at the front are gone. */
  #dropped = 0
  /** The number of the oldest segment that is in memory, and how many bytes are. */
  #recentFrom = 0
  #recent = 0
  #pending: Buffer[] = []
  #pendingBytes = 0
  #writing: Promise<void> | undefined
  #written = 0
  /** Bytes of disk it has. Sliding, byte `n` lies at `n % #capacity`. */
  #capacity: number
  #sliding = false
  #ended = false
  #fault: Error | undefined
  #discarded = false
  readonly #readers = new Set<SpoolReader>()
  #heldUp = 0
  /** Called when there is more to read. */
  #wake: (() => void)[] = []
  /** Called when a reader got on or left. */
  #onMoved: (() => void) | undefined

  /**
   * @param onIdle called whenever the last reader has left
   * @throws SpoolError when there is no disk to begin with
   */
  constructor(options: { readonly folder: string; readonly disk: Disk; onIdle(): void }) {
    this.#folder = options.folder
    this.#disk = options.disk
    this.#onIdle = options.onIdle
    if (!this.#disk.take(STEP_BYTES)) throw new SpoolError('no disk is left for answers to be shared')
    this.#capacity = STEP_BYTES
  }

  get bytes(): number {
    return this.#capacity
  }

  get readers(): number {
    return this.#readers.size
  }

  /** Whether it can still be read from its beginning. */
  get entire(): boolean {
    return !this.#sliding && !this.#discarded && this.#fault === undefined
  }

  /** Takes the next bytes; wait for it before the next call. Throws when it cannot go on. */
  async append(chunk: Buffer): Promise<void> {
    if (this.#fault) throw this.#fault
    for (let at = 0; at < chunk.length; at += SEGMENT_BYTES) this.#pending.push(chunk.subarray(at, at + SEGMENT_BYTES))
    this.#pendingBytes += chunk.length
    this.#writing ??= this.#write()
    if (this.#pendingBytes > PENDING_BYTES_MAX) await this.#writing
  }

  /** Everything was appended: readers come to an end behind it. What was not needed of the disk is given back. */
  async end(): Promise<void> {
    await this.#writing
    if (this.#fault) throw this.#fault
    this.#ended = true
    if (!this.#sliding && !this.#discarded) {
      this.#disk.give(this.#capacity - this.#written)
      this.#capacity = this.#written
    }
    this.#wakeAll()
  }

  /** There will be no more: readers fail with `error` once they have read what is there. */
  fail(error: Error): void {
    this.#fault ??= error
    this.#wakeAll()
    this.#onMoved?.()
  }

  /** A reader from the beginning. Throws when the beginning is gone. */
  reader(): SpoolReader {
    if (!this.entire) throw new SpoolError('the beginning of this answer is gone')
    const reader = new SpoolReader(this)
    this.#readers.add(reader)
    reader.once('close', () => {
      this.#readers.delete(reader)
      this.#onMoved?.()
      if (this.#readers.size > 0) return
      if (this.#discarded) void this.#close()
      this.#onIdle()
    })
    return reader
  }

  /** Is needed no more: its disk is given back as soon as nobody reads. */
  discard(): void {
    if (this.#discarded) return
    this.#discarded = true
    if (this.#readers.size === 0) void this.#close()
  }

  async #close(): Promise<void> {
    this.fail(new SpoolError('nobody reads this answer any more'))
    // At once: who makes room for another answer counts on it.
    this.#disk.give(this.#capacity)
    await this.#writing
    await this.#file?.close().catch(() => {})
  }

  // ---- writing ----

  async #write(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const bytes = this.#take()
        await this.#room(bytes.length)
        await this.#put(bytes)
        this.#remember({ length: bytes.length, checksum: crc32(bytes), bytes })
        this.#written += bytes.length
        this.#wakeAll()
      }
    } catch (error) {
      this.fail(
        error instanceof SpoolError ? error : new SpoolError('an answer could not be spooled', { cause: error }),
      )
    } finally {
      this.#pendingBytes = 0
      this.#pending = []
      this.#writing = undefined
    }
  }

  /** The next segment: what came in while the last one was written. */
  #take(): Buffer {
    let count = 1
    let bytes = this.#pending[0]!.length
    while (count < this.#pending.length && bytes + this.#pending[count]!.length <= SEGMENT_BYTES) {
      bytes += this.#pending[count++]!.length
    }
    this.#pendingBytes -= bytes
    const parts = this.#pending.splice(0, count)
    // A small piece of a large block would keep all of it in memory.
    return count === 1 && parts[0]!.buffer.byteLength <= 2 * bytes ? parts[0]! : Buffer.concat(parts)
  }

  #remember(segment: Segment): void {
    this.#segments.push(segment)
    this.#recent += segment.length
    while (this.#recent > RECENT_BYTES_MAX) this.#forget(this.#segments[this.#recentFrom - this.#dropped]!)
  }

  #forget(segment: Segment): void {
    if (segment.bytes === undefined) return
    segment.bytes = undefined
    this.#recent -= segment.length
    this.#recentFrom++
  }

  /** Waits until `length` more bytes may be written. */
  async #room(length: number): Promise<void> {
    if (this.#fault) throw this.#fault
    if (!this.#sliding) {
      if (this.#written + length <= this.#capacity) return
      if (this.#disk.take(STEP_BYTES)) {
        this.#capacity += STEP_BYTES
        return
      }
      this.#sliding = true
    }
    for (;;) {
      if (this.#fault) throw this.#fault
      this.#dropRead()
      const needed = this.#written + length - this.#capacity
      const behind = [...this.#readers].filter(reader => reader.position < needed)
      if (behind.length === 0) return
      const since = performance.now()
      await this.#moved(PATIENCE_MILLISECONDS - this.#heldUp)
      // Readers that are all as slow hold up nobody.
      if (behind.length === this.#readers.size) continue
      this.#heldUp += performance.now() - since
      if (this.#heldUp < PATIENCE_MILLISECONDS) continue
      this.#heldUp = 0
      for (const reader of behind) {
        reader.destroy(new SpoolError('the answer was longer than could be kept for a reader this slow; try again'))
      }
    }
  }

  /** Lets go of the segments that everybody has read. */
  #dropRead(): void {
    const first = Math.min(...[...this.#readers].map(reader => reader.index), this.#dropped + this.#segments.length)
    for (const segment of this.#segments.splice(0, first - this.#dropped)) this.#forget(segment)
    this.#dropped = first
  }

  /** When a reader got on or left, or after `milliseconds`. */
  #moved(milliseconds: number): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer)
        this.#onMoved = undefined
        resolve()
      }
      const timer = setTimeout(done, milliseconds)
      this.#onMoved = done
    })
  }

  /** Writes a segment. When the disk itself is full the spool slides: what it has must do. */
  async #put(bytes: Buffer): Promise<void> {
    try {
      await this.#putAt(bytes)
    } catch (error) {
      // With less than a step readers could not be apart at all.
      if (!isFull(error) || this.#sliding || this.#written < STEP_BYTES) throw error
      this.#disk.give(this.#capacity - this.#written)
      this.#capacity = this.#written
      this.#sliding = true
      await this.#room(bytes.length)
      await this.#putAt(bytes)
    }
  }

  async #putAt(bytes: Buffer): Promise<void> {
    this.#file ??= await this.#create()
    const start = this.#written % this.#capacity
    const straight = Math.min(bytes.length, this.#capacity - start)
    await writeAt(this.#file, bytes.subarray(0, straight), start)
    if (straight < bytes.length) await writeAt(this.#file, bytes.subarray(straight), 0)
  }

  async #create(): Promise<FileHandle> {
    const path = join(this.#folder, SPOOL_PREFIX + randomUUID())
    const file = await open(path, 'wx+', 0o600)
    await unlink(path)
    return file
  }

  // ---- reading ----

  /** For readers: the segment with this number once it is there; undefined behind the last. Throws when it never will be. */
  async segment(index: number): Promise<Segment | undefined> {
    for (;;) {
      const segment = this.#segments[index - this.#dropped]
      if (segment) return segment
      if (this.#ended) return undefined
      if (this.#fault) throw this.#fault
      await new Promise<void>(resolve => this.#wake.push(resolve))
    }
  }

  /**
   * For readers: the bytes of a segment that begins at `position`.
   *
   * @throws SpoolError when they are not those that were written
   */
  async load(segment: Segment, position: number): Promise<Buffer> {
    if (segment.bytes) return segment.bytes
    const file = this.#file
    if (!file) throw new SpoolError('the file of an answer is gone')
    const bytes = Buffer.allocUnsafeSlow(segment.length)
    const start = position % this.#capacity
    const straight = Math.min(bytes.length, this.#capacity - start)
    const whole =
      (await readAt(file, bytes.subarray(0, straight), start)) && (await readAt(file, bytes.subarray(straight), 0))
    if (!whole || crc32(bytes) !== segment.checksum) {
      const fault = new SpoolError('the disk gave back other bytes than were written')
      this.fail(fault)
      throw fault
    }
    return bytes
  }

  /** For readers: one of them got on. */
  readOn(): void {
    this.#onMoved?.()
  }

  #wakeAll(): void {
    const waking = this.#wake
    this.#wake = []
    for (const wake of waking) wake()
  }
}

/** One reader's way through a spool. Destroying it is leaving. */
export class SpoolReader extends Readable {
  /** Resolves with the first bytes; rejects when there will be none. */
  readonly begun: Promise<void>
  /** Bytes and segments read so far. */
  position = 0
  index = 0
  readonly #spool: Spool
  #onBegun: () => void = () => {}

  constructor(spool: Spool) {
    super({ highWaterMark: 1 })
    this.#spool = spool
    this.begun = new Promise((resolve, reject) => {
      this.#onBegun = resolve
      this.once('close', () => reject(this.errored ?? new SpoolError('the answer was let go of before it began')))
    })
    // Whoever waits for neither hears of it by the stream.
    this.begun.catch(() => {})
    this.on('error', () => {})
    // Fetches the first segment without being asked.
    this.read(0)
  }

  override _read(): void {
    this.#next().catch((error: Error) => this.destroy(error))
  }

  async #next(): Promise<void> {
    const segment = await this.#spool.segment(this.index)
    if (this.destroyed) return
    if (!segment) {
      this.push(null)
      this.#onBegun()
      return
    }
    const bytes = await this.#spool.load(segment, this.position)
    if (this.destroyed) return
    this.position += segment.length
    this.index++
    this.push(bytes)
    this.#onBegun()
    this.#spool.readOn()
  }
}

/** No disk, no quota, or no longer file allowed. */
function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^(?:ENOSPC|EDQUOT|EFBIG)$/.test(String(error.code))
}

async function writeAt(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten
  }
}

/** Fills `bytes`; false when the file ends before. */
async function readAt(file: FileHandle, bytes: Buffer, position: number): Promise<boolean> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, position + at)
    if (bytesRead === 0) return false
    at += bytesRead
  }
  return true
}
