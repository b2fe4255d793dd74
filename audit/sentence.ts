/** A record in its place, as the API shows it. */
export interface Entry {
  readonly seq: number
  readonly recorded: string
  readonly record: { readonly kind: string; readonly [name: string]: unknown }
}

const isReason = (value: unknown): value is { readonly reason: string } =>
  typeof value === 'object' && value !== null && 'reason' in value && typeof value.reason === 'string'

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
  const because = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
  const only = isReason(rest.observed) ? ` [only observed, otherwise refused: ${rest.observed.reason}]` : ''
  return `${words.filter(word => word !== '').join(' ')}${because}${only}`.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}
