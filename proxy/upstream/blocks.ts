// Where the bytes of answers lie. A buffer for each read, left to the garbage collector, is what makes a proxy grow by
// a hundred megabytes while it carries one clone; blocks that are used again make it grow by none.

/** As much as is read at once. */
export const BLOCK_BYTES = 256 * 1024
/** A rest of a block that is smaller than this is not worth a read. */
const ROOM_BYTES_MIN = 32 * 1024
/** What one connection reads into while little is to be expected: heads, short answers, an answer that nobody reads. */
const OWN_BYTES = 16 * 1024
/** Blocks kept for the next who needs one: 8 MiB. */
const KEPT_MAX = 32

interface Block {
  readonly bytes: Buffer
  /** Where the next read goes. */
  filled: number
  /** Chunks that somebody still has. */
  lent: number
  /** Whether a connection reads into it. */
  open: boolean
}

const kept: Block[] = []

/** The memory that one connection reads into. */
export class Intake {
  readonly #own = Buffer.allocUnsafeSlow(OWN_BYTES)
  readonly #lent = new WeakMap<Buffer, Block>()
  #block: Block | undefined
  /** Where the read under way goes. */
  #room: Buffer = this.#own

  /** The memory for the next read. `large`: much more is expected, and somebody takes it. */
  next(large: boolean): Buffer {
    if (!large) {
      this.close()
      this.#room = this.#own
      return this.#room
    }
    let block = this.#block
    if (block && block.lent === 0) block.filled = 0
    if (block && block.bytes.length - block.filled < ROOM_BYTES_MIN) {
      this.close()
      block = undefined
    }
    block ??= kept.pop() ?? { bytes: Buffer.allocUnsafeSlow(BLOCK_BYTES), filled: 0, lent: 0, open: true }
    block.open = true
    this.#block = block
    this.#room = block.filled === 0 ? block.bytes : block.bytes.subarray(block.filled)
    return this.#room
  }

  /** What the last read brought: `count` bytes. Theirs until `next` is called, unless they are lent. */
  read(count: number): Buffer {
    if (this.#room !== this.#own && this.#block) this.#block.filled += count
    return this.#room.subarray(0, count)
  }

  /** A part of what was just read, to be kept for as long as one likes. A few bytes are copied; what lies elsewhere stays. */
  lend(part: Buffer): Buffer {
    if (part.buffer !== this.#room.buffer) return part
    const block = this.#block
    if (this.#room === this.#own || !block) return Buffer.from(part)
    // A view of its own even when it is all of what was read: what is given back is known by it.
    const chunk = part.subarray()
    block.lent++
    this.#lent.set(chunk, block)
    return chunk
  }

  /**
   * Takes a chunk back whose bytes nobody will look at again. Anything else is let be, and so is a chunk that was given
   * back before; one that never is goes the way of all buffers, and its block with it.
   */
  giveBack(chunk: Buffer): void {
    const block = this.#lent.get(chunk)
    if (!block) return
    this.#lent.delete(chunk)
    block.lent--
    keep(block)
  }

  /** Reads into no block any more. */
  close(): void {
    const block = this.#block
    if (!block) return
    this.#block = undefined
    block.open = false
    keep(block)
  }
}

function keep(block: Block): void {
  if (block.open || block.lent > 0 || kept.length >= KEPT_MAX) return
  block.filled = 0
  kept.push(block)
}
