import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

type Collect = (options: { readonly type: 'major' | 'minor'; readonly flavor?: 'last-resort' }) => void

/**
 * What the young generation may take, both its halves: with half of it a gate that answers many at once pays a third more
 * CPU for each request, with four times as much a single clone makes the process 60 MB larger.
 */
const YOUNG_BYTES = 4 << 20
/**
 * How much more than what is in use may lie about before everything is searched for garbage. While each read over SSH had a
 * buffer of its own, 60 cost half as much CPU again, and with 100 the proxy grew by more than 32 MB now and then.
 */
const GROWING_PERCENT = 80
const ROUNDS_MAX = 50
const SURVIVORS = 20_000

/**
 * Keeps the garbage collector's young generation small; call it once, when everything is loaded.
 *
 * V8 lets it grow to 32 MB and more while there is much to do, and every buffer that was read or encrypted in between waits
 * in it to be found: a push or an SSH session of any length made the process 60 to 80 MB larger, for good. Nearly nothing
 * of what a relay makes outlives the packet it was made for, so that small and frequent collections cost no more.
 *
 * Everything is searched when the heap has grown by a tenth, otherwise: with 18 MB in use that is each time 9 MB of buffers
 * were made, a hundred times in half a gigabyte over SSH, and took two thirds of all the CPU. The small collections in
 * between find those buffers as well.
 *
 * A small collection is done by one thread: it takes less than it takes to wake others up for a part of it.
 *
 * Done to the running VM, so that it holds however the program was started. Loading it has made the young generation large
 * already: a collection "as a last resort" makes it as small as it can be, it is let grow once, and never again.
 */
export function boundYoungGeneration(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as Collect
  setFlagsFromString('--no-expose-gc')
  collect({ type: 'major', flavor: 'last-resort' })
  // It grows when much has outlived a collection.
  for (let round = 0; round < ROUNDS_MAX && youngBytes() < YOUNG_BYTES; round++) {
    const survivors = Array.from({ length: SURVIVORS }, () => ({}))
    collect({ type: 'minor' })
    survivors.length = 0
  }
  setFlagsFromString('--no-parallel-scavenge')
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`)
  // The limit is set anew by a collection.
  collect({ type: 'major' })
}

/** Bytes the young generation takes now, both its halves. */
export function youngBytes(): number {
  return getHeapSpaceStatistics().find(space => space.space_name === 'new_space')?.space_size ?? 0
}
