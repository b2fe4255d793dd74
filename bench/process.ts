import { readFileSync } from 'node:fs'

/** CPU seconds a process has used so far, its own and that of children it has waited for. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ')
  const ticks = [11, 12, 13, 14].map(at => Number(fields[at])).reduce((sum, each) => sum + each, 0)
  return ticks / 100
}

/** Resident memory of a process now, in bytes. */
export function residentBytes(pid: number): number {
  const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kilobytes) * 1024
}
