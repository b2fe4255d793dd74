// A host's git writes its pack in pieces of 4 KiB or so. Read one by one they cost the gate more than the bytes do: a wake-up,
// a decision and a write each. A socket left alone for a moment has several of them to give at once.

/** How long the socket is left alone: some pieces long, and too short for anybody to notice. */
export const GATHER_MILLISECONDS = 1

/** A stream is judged by what came in this time. */
const WINDOW_MILLISECONDS = 10
/** Bytes a millisecond. Slower is no pack, or one that waits for something else than us; faster is never held up. */
const RATE = { least: 6_000, most: 48_000 }
/** Where a read brings as much as this, waiting would gain nothing. */
const PLENTY_BYTES = 64 << 10

/** Made for one socket and told of each read: says whether to leave it alone before the next. */
export function gathering(now: () => number = () => performance.now()): (bytes: number) => boolean {
  let since = now()
  let came = 0
  let waits = false
  return bytes => {
    came += bytes
    const elapsed = now() - since
    if (elapsed >= WINDOW_MILLISECONDS) {
      const rate = came / elapsed
      waits = rate >= RATE.least && rate <= RATE.most
      since += elapsed
      came = 0
    }
    return waits && bytes < PLENTY_BYTES
  }
}
