import { setFlagsFromString } from 'node:v8'

/**
 * Keeps the garbage collector's young generation at the size it was born with (a megabyte or two of objects).
 *
 * V8 lets it grow to 32 MB and more while there is much to do, and every buffer that was read or encrypted in between waits
 * in it to be found: a push or an SSH session of any length made the process 60 to 80 MB larger, for good. Nearly nothing
 * of what a relay makes outlives the packet it was made for, so small and frequent collections cost it no more than large ones.
 *
 * A flag of the running VM, not an argument of the process: so it holds however the program was started.
 */
export function boundYoungGeneration(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}
