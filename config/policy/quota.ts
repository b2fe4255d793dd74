import { readDuration } from '../units.ts'

/** `3 per day`: how many within how many milliseconds. */
export interface Quota {
  readonly count: number
  readonly period: number
}

export const QUOTA_FORM = 'a quota such as "3 per day", "1 per 12 hours" or "10 per week"'

/** Undefined when the text is no quota. */
export function readQuota(text: string): Quota | undefined {
  const part = /^(\d{1,4}) +per +(.{1,40})$/i.exec(text.trim())
  if (!part) return undefined
  const period = readDuration(/^\d/.test(part[2]!) ? part[2]! : `1 ${part[2]!}`)
  const count = Number(part[1])
  return period !== undefined && period > 0 && count > 0 ? { count, period } : undefined
}
