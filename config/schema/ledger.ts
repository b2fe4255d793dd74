import { z } from 'zod'
import {
  address,
  duration,
  encryptedUrl,
  HOUR,
  headers,
  matching,
  secret,
  section,
  size,
  text,
  WEBHOOK_SECRET,
  whole,
} from './value.ts'

const stream = matching(/^[\w:.-]{1,200}$/, 'the key of a stream')

const forwarders = {
  syslog: section({
    type: z.literal('syslog'),
    address,
    ca: text('certificates in PEM').optional().describe("Trusted for the receiver; the system's otherwise."),
    certificate: text('a certificate in PEM').optional().describe('Shown to the receiver.'),
    key: secret('its private key in PEM').optional(),
  }),
  webhook: section({
    type: z.literal('webhook'),
    url: encryptedUrl,
    secret: secret('whsec_ and base64').refine(written => WEBHOOK_SECRET.test(written), {
      error: 'expected whsec_ and at least 24 bytes in base64',
    }),
  }),
  redis: section({
    type: z.literal('redis'),
    stream: stream.default('drawbridge:ledger'),
    keep: whole(1, 100_000_000).default(10_000).describe('About how many records stay in the stream.'),
  }),
  s3: section({
    type: z.literal('s3'),
    endpoint: encryptedUrl.describe('Of the service, without the bucket.'),
    region: text('a region').default('us-east-1'),
    bucket: matching(/^[a-z0-9][a-z0-9.-]{1,62}$/, 'the name of a bucket'),
    prefix: text('what stands before the names of the objects').default('drawbridge/'),
    access_key: text('an access key'),
    secret_key: secret('a secret key'),
  }),
}

const forward = z
  .discriminatedUnion('type', [forwarders.syslog, forwarders.webhook, forwarders.redis, forwarders.s3], {
    error: `expected a mapping whose type is ${Object.keys(forwarders).join(', ')}`,
  })
  .transform(chosen => {
    if (chosen.type === 'syslog') {
      const { type, address: at, ca, certificate, key } = chosen
      return { type, ...at, ca, certificate, key }
    }
    if (chosen.type === 'webhook' || chosen.type === 'redis') return chosen
    const { access_key: accessKey, secret_key: secretKey, ...rest } = chosen
    return { ...rest, accessKey, secretKey }
  })

const heads = section({
  stdout: z
    .boolean({ error: 'expected true or false' })
    .default(false)
    .describe('One line of JSON each on standard output of the admin role.'),
  webhook: section({
    url: encryptedUrl,
    headers: headers.describe('Sent along, such as authorization.'),
  })
    .optional()
    .describe('Each is POSTed there as JSON.'),
  redis: stream.optional().describe("A stream in the gate's own Redis."),
}).transform(({ webhook, redis, stdout }) => ({
  stdout,
  ...(webhook !== undefined && { webhook }),
  ...(redis !== undefined && { redis }),
}))

export const ledger = section({
  when_away: z
    .literal(['refuse', 'spool'], { error: 'expected refuse or spool' })
    .default('refuse')
    .describe('What happens to operations while PostgreSQL is away.'),
  spool: size(1 << 20, 2 ** 40)
    .prefault('256MiB')
    .describe('How much may be spooled below state.'),
  retention: duration(24 * HOUR, 36_500 * 24 * HOUR)
    .optional()
    .describe('Records older than this are exported, with proof, and taken out of PostgreSQL; left out: they stay.'),
  archive: text('the path of a folder')
    .optional()
    .describe('Where retention puts what it exports; `ledger/archive` below state unless given.'),
  heads: heads.prefault({}).describe('Where signed heads are published besides the file in the state folder.'),
  forward: z
    .record(
      matching(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'a name of lower-case letters, digits, dash and underscore'),
      forward,
      {
        error: 'expected a mapping of names to forwarders',
      },
    )
    .default({})
    .describe(
      'Systems that are sent every record: type syslog, webhook, redis or s3. Each has its own place and holds up nobody.',
    ),
})
