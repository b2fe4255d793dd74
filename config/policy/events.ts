import { checkRefPattern, coversRef } from '../../grant/pattern.ts'

/** What a Git host can say that began: these open windows where a rule's `trigger` names them. */

const EVENT_KINDS = ['merge', 'deployment', 'pipeline', 'job'] as const
export type EventKind = (typeof EVENT_KINDS)[number]

/** Something that began at a host. */
export interface HostEvent {
  readonly kind: EventKind
  /** The environment, the pipeline's or the job's name. */
  readonly name?: string
  /** The full ref that was merged into, is deployed or runs; absent: the host does not say. */
  readonly ref?: string
}

/** What a rule waits for. */
export interface EventTrigger {
  readonly kind: EventKind
  readonly name?: string
  readonly ref?: string
}

export const EVENT_FORM =
  '"pull request merged into main", "deployment to production", "pipeline deploy on main" or "job deploy on main"'
const TEXT_MAX = 300

/**
 * Reads `pull request merged into release/*`, `deployment to production started`, `pipeline on main`, `job deploy on main`.
 * A string is what is wrong with it; undefined: it speaks of no event at all.
 */
export function readEvent(text: string): EventTrigger | string | undefined {
  const words = text.slice(0, TEXT_MAX + 1).trim()
  if (!/^((pull|merge)\s+request|merged?|deployment|pipeline|job)\b/i.test(words)) return undefined
  if (words.length > TEXT_MAX) return `more than ${TEXT_MAX} characters`
  const merge = /^(?:(?:pull|merge)\s+request\s+)?merged?\s+(?:in)?to\s+(\S+)$/i.exec(words)
  if (merge?.[1] !== undefined) return withRef({ kind: 'merge' }, merge[1])
  const [, head = '', ref] = /^(.*?)(?:\s+on\s+(\S+))?$/s.exec(words.replace(/\s+started$/i, '')) ?? []
  const part = /^(deployment|pipeline|job)(?:\s+(?:to\s+)?(\S.*))?$/is.exec(head)
  const kind = EVENT_KINDS.find(one => one === part?.[1]?.toLowerCase())
  if (kind === undefined) return `"${text.slice(0, 80)}" names no event; accepted is ${EVENT_FORM}`
  const name = part?.[2]
  return withRef({ kind, ...(name !== undefined && { name }) }, ref)
}

function withRef(trigger: EventTrigger, ref: string | undefined): EventTrigger | string {
  const fault = ref === undefined ? undefined : checkRefPattern(ref)
  if (fault !== undefined) return `branch "${ref?.slice(0, 80)}": ${fault}`
  return { ...trigger, ...(ref !== undefined && { ref }) }
}

/** Names are compared letter by letter. A ref that the host does not tell meets no trigger that names one. */
export function meetsEvent(trigger: EventTrigger, event: HostEvent): boolean {
  if (trigger.kind !== event.kind) return false
  if (trigger.name !== undefined && trigger.name !== event.name) return false
  return trigger.ref === undefined || (event.ref !== undefined && coversRef({ refs: [trigger.ref] }, event.ref))
}
