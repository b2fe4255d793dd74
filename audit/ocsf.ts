import type { Linked } from './chain.ts'
import { facets } from './facets.ts'
import { linked, type StoredRow } from './read.ts'
import type { Record } from './record.ts'
import { approvalText } from './sentence.ts'

// Open Cybersecurity Schema Framework: classes API Activity (6003) and Authentication (3002).
const SCHEMA_VERSION = '1.3.0'
const API_ACTIVITY = {
  category_uid: 6,
  category_name: 'Application Activity',
  class_uid: 6003,
  class_name: 'API Activity',
} as const
const AUTHENTICATION = {
  category_uid: 3,
  category_name: 'Identity & Access Management',
  class_uid: 3002,
  class_name: 'Authentication',
} as const

const CREATE = 1
const READ = 2
const UPDATE = 3
const DELETE = 4
const LOGON = 1
const OTHER = 99

/** One record as an OCSF event in JSON; the record itself stands under `unmapped`, as the text that it is in the ledger. */
export function ocsfText(row: StoredRow): string {
  const event = JSON.stringify(ocsfEvent(linked(row))).slice(0, -1)
  return `${event},"unmapped":{"record":${row.body},"hash":"${row.hash}","proxy":${JSON.stringify(row.proxy)}}}`
}

function ocsfEvent(entry: Linked): object {
  const { record } = entry
  const signin = record.kind === 'signin.refused'
  const activity = signin ? LOGON : activityOf(record)
  const eventClass = signin ? AUTHENTICATION : API_ACTIVITY
  const facts = facets(record)
  const origin = 'origin' in record ? record.origin : undefined
  const name = facts.actor ?? facts.principal ?? ('claimed' in record ? record.claimed : undefined) ?? 'unknown'
  return {
    ...eventClass,
    activity_id: activity,
    type_uid: eventClass.class_uid * 100 + activity,
    time: Date.parse(entry.at),
    ...statusOf(record),
    metadata: {
      version: SCHEMA_VERSION,
      product: { name: 'Drawbridge', vendor_name: 'Drawbridge' },
      uid: String(entry.seq),
      sequence: entry.seq,
      logged_time: Date.parse(entry.recorded),
      ...(facts.operation ? { correlation_uid: facts.operation } : {}),
    },
    actor: { user: { name }, ...authorizationsOf(record) },
    ...(signin ? { user: { name } } : { api: { operation: record.kind, service: { name: 'drawbridge' } } }),
    src_endpoint: origin ? { ip: origin.address } : { name: entry.proxy },
    ...(facts.repository ? { resources: [{ name: facts.repository, type: 'repository' }] } : {}),
    ...('reason' in record && record.reason ? { message: record.reason } : {}),
  }
}

/** Why it was allowed: the policy in its version, and by it the window, its request and who approved that. */
function authorizationsOf(record: Record): object {
  if (record.kind !== 'operation.start' || record.under === undefined) return {}
  const authorizations = record.under.map(approval => {
    const version = approval.policy === undefined ? {} : { version: approval.policy }
    return { decision: 'allowed', policy: { name: 'access to Git', ...version, desc: approvalText(approval) } }
  })
  return { authorizations }
}

function activityOf(record: Record): number {
  if ('action' in record) return record.action === 'push' ? UPDATE : READ
  const last = record.kind.split('.')[1] ?? ''
  if (['issued', 'made', 'created', 'registered', 'started', 'loaded'].includes(last)) return CREATE
  if (['extended', 'approved', 'denied', 'vote', 'locked', 'unlocked'].includes(last)) return UPDATE
  if (['ended', 'revoked', 'withdrawn', 'lapsed', 'cut', 'stopped'].includes(last)) return DELETE
  return OTHER
}

function statusOf(record: Record) {
  const informational = { severity_id: 1, severity: 'Informational' }
  const { result } = facets(record)
  if (record.kind === 'anomaly.found') return { severity_id: 3, severity: 'Medium', status_id: 1, status: 'Success' }
  if (record.kind === 'ledger.gap' || record.kind === 'bypass.suspected')
    return { severity_id: 5, severity: 'Critical', status_id: 2, status: 'Failure' }
  if (result === 'refused')
    return { severity_id: 2, severity: 'Low', status_id: 2, status: 'Failure', status_detail: 'refused' }
  if (result !== null && result !== 'ok')
    return { ...informational, status_id: 2, status: 'Failure', status_detail: result }
  return { ...informational, status_id: 1, status: 'Success' }
}
