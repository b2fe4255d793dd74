import { writeFileSync } from 'node:fs'
import { z } from 'zod'
import type { Record } from './record.ts'

const text = z.string()
const texts = z.array(text)
const count = z.int().min(0)
const time = z.iso.datetime()
const objectId = z.string().describe('hexadecimal, 40 or 64 digits')

const identity = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('token'), id: text }),
  z.strictObject({ kind: z.literal('key'), fingerprint: text }),
  z.strictObject({ kind: z.literal('certificate'), serial: text, keyId: text, fingerprint: text, authority: text }),
])

const origin = z.strictObject({
  transport: z.enum(['http', 'ssh']),
  address: text,
  connection: text.describe('one TCP connection'),
  agent: text,
})

const paths = z.array(texts).describe('what may be changed: within each of these lists; ! in front of what may not')
const askedUpdate = {
  ref: text,
  old: objectId,
  new: objectId,
  action: z.enum(['create', 'update', 'force', 'delete', 'tag', 'update-or-force']),
  paths: paths.optional(),
}
const asked = z.array(z.strictObject(askedUpdate))
const done = z.array(
  z.strictObject({ ...askedUpdate, result: z.enum(['ok', 'rejected', 'unknown']), reason: text.optional() }),
)

const fetchDetail = z.strictObject({
  wants: count,
  haves: count,
  depth: text.optional(),
  filter: text.optional(),
  kind: z.enum(['clone', 'incremental']),
})

const operation = {
  operation: text,
  principal: text,
  repository: text.describe('<upstream>/<path>'),
  service: z.enum(['upload-pack', 'receive-pack', 'upload-archive', 'lfs']),
  action: z.enum(['list', 'fetch', 'push', 'archive']),
}

const observed = z
  .strictObject({ code: text, reason: text })
  .describe('why it would have been refused; let through because its repository is only observed')

const by = text.describe('the principal who did it, or drawbridge itself')
const optionalReason = { reason: text.optional() }
const lock = { by, principal: text, reason: text }
const trigger = {
  by,
  event: z.enum(['merge', 'deployment', 'pipeline', 'job']),
  run: text.describe("the host's own number of it"),
  repository: text,
  commit: text.optional().describe('what was merged, is deployed or runs'),
  delivery: text.describe("the host's number of the message"),
  actor: text.describe('login and number at the host'),
  principal: text.optional(),
  request: text.optional(),
  rule: text.optional(),
  reason: text.optional(),
}
const signin = {
  by,
  signin: text,
  principal: text,
  address: text.optional(),
  groups: texts.optional(),
  roles: texts.optional(),
  mfa: time.optional(),
  expires: time.optional(),
  ...optionalReason,
}
const token = { by, token: text, principal: text, roles: texts, expires: time.optional() }
const service = {
  by,
  principal: text,
  owner: text,
  token: text.optional(),
  until: time.optional(),
  ...optionalReason,
}
const key = { by, fingerprint: text, principal: text, expires: time.optional() }
const certificate = { by, serial: text, keyId: text, principals: texts, expires: time.optional(), ...optionalReason }
const authority = { by, ring: z.enum(['user', 'host']), fingerprint: text }
const version = { by, version: text, ...optionalReason }
const role = { by, role: text, ...optionalReason }
const via = z.enum(['ssh', 'refusal', 'slack', 'email', 'teams', 'api', 'cli'])
const request = {
  by,
  request: text,
  principal: text,
  repository: text,
  actions: texts,
  refs: texts,
  reason: text,
  policy: text.optional(),
  rule: text.optional(),
  via: via.optional(),
}

const approval = {
  approvers: texts.optional().describe('by whose approvals the request was; none where the policy opens by itself'),
  policy: text.optional().describe('the version of the policy the request was decided by'),
}

type Members = { readonly [name: string]: z.ZodType }

/** What each kind consists of beside its `kind`. A kind that is missing here does not compile. */
const MEMBERS = {
  'operation.start': {
    ...operation,
    identity,
    origin,
    protocol: z.literal([0, 1, 2]),
    grants: texts,
    under: z
      .array(z.strictObject({ grant: text, request: text, ...approval }))
      .optional()
      .describe('those of the grants that answer a request'),
    updates: asked.optional(),
    fetch: fetchDetail.optional(),
    pushOptions: texts.optional(),
    observed: observed.optional(),
  },
  'operation.end': {
    ...operation,
    result: z.enum(['ok', 'failed', 'cut', 'refused', 'interrupted']),
    reason: text.optional(),
    bytesIn: count,
    bytesOut: count,
    milliseconds: count,
    updates: done.optional(),
    objects: count.optional(),
    reuse: z.enum(['shared', 'cached']).optional(),
    observed: observed.optional(),
  },
  'operation.refused': { ...operation, identity, origin, code: text, reason: text, updates: asked.optional() },
  'signin.refused': { origin, code: text, reason: text, claimed: text.optional() },
  'grant.issued': {
    by,
    grant: text,
    principal: text,
    repository: text,
    actions: texts,
    refs: texts,
    starts: time,
    expires: time,
    idle: count.optional(),
    uses: count.optional(),
    bytes: count.optional(),
    paths: paths.optional(),
    reason: text,
    request: text.optional(),
    ...approval,
  },
  'grant.extended': {
    by,
    grant: text,
    principal: text,
    expires: time,
    reason: text,
    request: text.optional(),
    ...approval,
  },
  'grant.ended': {
    by,
    grant: text,
    principal: text,
    how: z.enum(['expired', 'revoked', 'released', 'idle', 'used', 'locked']),
    reason: text,
  },
  'session.cut': { by, operation: text, principal: text, reason: text },
  'principal.locked': lock,
  'principal.unlocked': lock,
  'signin.made': signin,
  'signin.ended': signin,
  'token.created': token,
  'token.revoked': token,
  'service.created': service,
  'service.rotated': service,
  'service.assigned': service,
  'service.ended': service,
  'key.registered': key,
  'key.revoked': key,
  'certificate.issued': certificate,
  'certificate.refused': certificate,
  'certificate.revoked': certificate,
  'authority.rotated': authority,
  'authority.distrusted': authority,
  'config.loaded': version,
  'config.refused': version,
  'policy.loaded': version,
  'policy.refused': version,
  'role.started': role,
  'role.stopped': role,
  'request.made': request,
  'request.approved': request,
  'request.denied': request,
  'request.withdrawn': request,
  'request.lapsed': request,
  'request.escalated': request,
  'request.vote': request,
  'request.comment': {
    by,
    request: text,
    principal: text,
    repository: text,
    reason: text,
    via: via.optional(),
    channel: text.optional(),
  },
  'trigger.fired': trigger,
  'trigger.refused': trigger,
  'trigger.ended': trigger,
  'channel.refused': {
    by,
    channel: text,
    code: text,
    reason: text,
    address: text.optional(),
    claimed: text.optional(),
  },
  'ledger.gap': { by, proxy: text, boot: text, from: count, to: count },
  'ledger.duplicate': { operation: text },
  'anomaly.found': {
    by,
    anomaly: z.enum(['volume', 'spread', 'network', 'last-moment', 'refusals']),
    principal: text,
    repository: text.optional(),
    operation: text.optional(),
    grant: text.optional(),
    reason: text,
  },
  'bypass.suspected': {
    by,
    repository: text,
    ref: text,
    left: objectId,
    found: objectId,
    operation: text,
    principal: text,
    reason: text,
  },
  'ledger.retained': { by, from: count, to: count, file: text, sha256: text },
} satisfies { readonly [kind in Record['kind']]: Members }

export const KINDS = Object.keys(MEMBERS) as Record['kind'][]

/** A record of any kind; names and members beyond these are an error. */
export const recordSchema: z.ZodType = z
  .union(Object.entries(MEMBERS).map(([kind, members]) => z.strictObject({ kind: z.literal(kind), ...members })))
  .describe('A record of the Drawbridge ledger')

/** The same as JSON Schema, 2020-12, as text: `record.schema.json`. */
export function publishedSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(recordSchema, { target: 'draft-2020-12' }), null, 2)}\n`
}

if (import.meta.main) writeFileSync(new URL('record.schema.json', import.meta.url), publishedSchema())
