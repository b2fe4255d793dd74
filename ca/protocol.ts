import { z } from 'zod'

/**
 * What is said over the authority's unix socket: one line of JSON each way. Whoever can open the socket (its owner alone) is
 * believed as to who asks; the limits on what may be issued are the authority's own.
 */
export const REQUEST_BYTES_MAX = 64 << 10
/** A full KRL in base64. */
export const ANSWER_BYTES_MAX = 32 << 20

const by = z.string().min(1).max(255)
const ring = z.enum(['user', 'host'])
const line = z.string().max(16_384)
const reason = z.string().min(1).max(1000)
const signer = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('agent'), socket: z.string().max(255), publicKey: line }),
  z.strictObject({ kind: z.literal('vault'), key: z.string().max(255), version: z.int().min(1) }),
  z.strictObject({
    kind: z.literal('kms'),
    keyId: z.string().max(2048),
    region: z.string().regex(/^[a-z0-9-]{1,32}$/),
  }),
])
const serial = z
  .string()
  .regex(/^[1-9][0-9]{0,19}$/)
  .refine(text => BigInt(text) < 2n ** 64n, 'no serial number')

export const requestSchema = z.discriminatedUnion('ask', [
  z.strictObject({
    ask: z.literal('issue'),
    by,
    type: ring,
    publicKey: line,
    keyId: z.string(),
    principals: z.array(z.string()).max(256),
    starts: z.int().optional(),
    expires: z.int(),
    sourceAddress: z.string().optional(),
    extensions: z.record(z.string(), z.string()).optional(),
  }),
  /** The subject's key as SubjectPublicKeyInfo, DER. */
  z.strictObject({
    ask: z.literal('tls'),
    by,
    names: z.array(z.string()).max(256),
    publicKey: z.base64().max(4096),
    expires: z.int(),
  }),
  z.strictObject({ ask: z.literal('tls-root') }),
  z.strictObject({ ask: z.literal('trusted') }),
  z.strictObject({ ask: z.literal('krl') }),
  /** Without `next` a fresh key is made in a file. */
  z.strictObject({ ask: z.literal('rotate'), by, ring, next: signer.optional() }),
  z.strictObject({ ask: z.literal('distrust'), by, fingerprint: z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/) }),
  z.strictObject({
    ask: z.literal('revoke'),
    by,
    reason,
    serial: serial.optional(),
    keyId: z.string().min(1).max(200).optional(),
    publicKey: line.optional(),
  }),
])

export type AuthorityRequest = z.infer<typeof requestSchema>

const refusal = z.object({ ok: z.literal(false), code: z.string(), reason: z.string() })
export type Refused = z.infer<typeof refusal>

export const answerSchemas = {
  issue: z.union([z.object({ ok: z.literal(true), certificate: z.string(), serial: z.string() }), refusal]),
  /** PEM. */
  tls: z.union([z.object({ ok: z.literal(true), certificate: z.string(), root: z.string() }), refusal]),
  'tls-root': z.union([z.object({ ok: z.literal(true), root: z.string().nullable() }), refusal]),
  /** `krl`: the version of the list, which grows with each revocation. */
  trusted: z.union([
    z.object({ ok: z.literal(true), user: z.array(z.string()), host: z.array(z.string()), krl: z.string() }),
    refusal,
  ]),
  krl: z.union([z.object({ ok: z.literal(true), krl: z.base64() }), refusal]),
  rotate: z.union([z.object({ ok: z.literal(true) }), refusal]),
  distrust: z.union([z.object({ ok: z.literal(true) }), refusal]),
  revoke: z.union([z.object({ ok: z.literal(true) }), refusal]),
} as const
