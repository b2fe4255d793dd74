import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

type Collect = (options: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void

/**
 * Keeps the garbage collector's young generation at the size it was born with, a megabyte or two; call it once, when
 * everything is loaded.
 *
 * V8 lets it grow to 32 MB and more while there is much to do, and every buffer that was read or encrypted in between waits
 * in it to be found: a push or an SSH session of any length made the process 60 to 80 MB larger, for good. Nearly nothing
 * of what a relay makes outlives the packet it was made for, so small and frequent collections cost no more than large ones.
 *
 * By flags of the running VM, so that it holds however the program was started. Loading it has made the young generation
 * large already, and only a collection "as a last resort" makes it small again.
 */
export function boundYoungGeneration(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as Collect
  setFlagsFromString('--no-expose-gc')
  collect({ type: 'major', flavor: 'last-resort' })
}
