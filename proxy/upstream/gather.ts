// A host's git writes its pack in pieces of 4 KiB or so. Read one by one they cost the gate more than the bytes do: a wake-up,
// a decision and a write each. A socket left alone for a moment has several of them to give at once.

/** Reads of less than this, each close behind the last, are small pieces of something large. */
const SMALL_BYTES = 32 << 10
const CLOSE_MILLISECONDS = 5
const SMALL_READS = 16
/** Where a read brings as much as this, waiting would only hold it up. */
const PLENTY_BYTES = 64 << 10

/** How long the socket is left alone: some pieces long, and too short for anybody to notice. */
export const GATHER_MILLISECONDS = 1

/** Made for one socket and told of each read: says whether to leave it alone before the next. */
export function gathering(now: () => number = () => performance.now()): (bytes: number) => boolean {
  let smallReads = 0
  let last = Number.NEGATIVE_INFINITY
  return bytes => {
    const at = now()
    if (at - last > CLOSE_MILLISECONDS) smallReads = 0
    if (bytes < SMALL_BYTES) smallReads++
    last = at
    return smallReads > SMALL_READS && bytes < PLENTY_BYTES
  }
}
