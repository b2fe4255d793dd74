/**
 * What `node` is started with where a proxy runs in it. Nearly nothing of what a relay makes outlives the packet or the
 * request it was made for, so the garbage collector's young generation is small, and of one size:
 *
 * - V8 lets it grow to 32 MB and more while there is much to do, and every buffer that was read or encrypted in between waits
 *   in it to be found: a push or an SSH session of any length made the process 60 to 80 MB larger, for good. With 4 MB for
 *   each half that is 4 to 20 MB for a gigabyte, and a request takes no more CPU than with 8 or 16.
 * - V8 makes it smaller again while there is little to do: a request then took a quarter more CPU, until it had grown.
 * - A small collection is done by one thread: it takes less than it takes to wake others up for a part of it.
 * - Everything is searched when the heap has grown by a tenth, otherwise: with 18 MB in use that is each time 9 MB of
 *   buffers were made, a hundred times in half a gigabyte over SSH, and took two thirds of all the CPU. The small
 *   collections in between find those buffers as well, if the next one comes before the heap has more than doubled.
 */
export const PROXY_FLAGS: readonly string[] = [
  '--min-semi-space-size=4',
  '--max-semi-space-size=4',
  '--no-parallel-scavenge',
  '--heap-growing-percent=120',
]

/**
 * Starts this program anew with them, as the same process, so that they hold however it was started: V8 reads the first two
 * only while it begins. To be called before anything is opened. A process that is tied to its parent by a channel keeps
 * running as it is, since the channel would not outlive this; its parent starts it with them.
 */
export function withProxyFlags(): void {
  if (process.channel || PROXY_FLAGS.every(flag => process.execArgv.includes(flag))) return
  const args = [process.execPath, ...process.execArgv, ...PROXY_FLAGS, ...process.argv.slice(1)]
  process.execve?.(process.execPath, args, process.env)
}
