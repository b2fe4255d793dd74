import type { Approval } from './record.ts'

/** A record in its place, as the API shows it. */
export interface Entry {
  readonly seq: number
  readonly recorded: string
  readonly record: { readonly kind: string; readonly [name: string]: unknown }
}

const isReason = (value: unknown): value is { readonly reason: string } =>
  typeof value === 'object' && value !== null && 'reason' in value && typeof value.reason === 'string'

/** Of more grants or approvers than these a line tells only how many more there are. */
const NAMED_MAX = 5

/** `g-1 (r-1, approved by mona, raj)`, as far as it is known. */
export function approvalText({ grant, request, approvers }: Approval): string {
  const by = approvedBy(approvers)
  return `${grant} (${request}${by === '' ? '' : `, ${by}`})`
}

function approvedBy(approvers: unknown): string {
  if (!isWords(approvers)) return ''
  return `approved by ${approvers.length === 0 ? 'the policy itself' : listed(approvers)}`
}

function listed(words: readonly string[]): string {
  const more = words.length - NAMED_MAX
  return more > 0 ? `${words.slice(0, NAMED_MAX).join(', ')} and ${more} more` : words.join(', ')
}

const isWords = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every(word => typeof word === 'string')

const isApproval = (value: unknown): value is Approval =>
  typeof value === 'object' &&
  value !== null &&
  ['grant', 'request'].every(name => typeof Reflect.get(value, name) === 'string')

/**
 * One line for one record, whatever is in it: nothing a terminal acts on, since what others typed ends up here (CVE-2021-42574).
 * @param moment how a time is written; as it is recorded, in UTC, unless given
 */
export function sentence({ seq, recorded, record }: Entry, moment = (iso: string) => iso): string {
  const { kind, by, principal, action, repository, result, code, reason, ...rest } = record
  const who = [by, principal].filter(name => typeof name === 'string' && name !== '')
  const what = [action, repository, result, code].filter(word => typeof word === 'string')
  const ids = ['operation', 'grant', 'token', 'fingerprint', 'serial', 'request', 'role']
    .map(name => rest[name])
    .filter(id => typeof id === 'string')
  const words = [seq, moment(recorded), kind, [...new Set(who)].join(' for '), ...what, ...ids]
  const approvals = Array.isArray(rest.under) ? rest.under.filter(isApproval) : []
  const under = approvals.length > 0 ? ` under ${listed(approvals.map(approvalText))}` : ''
  const approved = isWords(rest.approvers) ? ` ${approvedBy(rest.approvers)}` : ''
  const because = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
  const only = isReason(rest.observed) ? ` [only observed, otherwise refused: ${rest.observed.reason}]` : ''
  const line = `${words.filter(word => word !== '').join(' ')}${under}${approved}${because}${only}`
  return line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}
