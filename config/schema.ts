import { writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { z } from 'zod'
import { checkRepositoryPattern } from '../grant/pattern.ts'
import { EVENTS } from './notify.ts'
import { CLOCK_FORM, DAYS_FORM, isZone, readClock, readDays, weekly } from './policy/hours.ts'
import { DURATION_FORM, readDuration, readSize, SIZE_FORM } from './units.ts'
import { claimsFault, PRESETS, type Preset, type PresetName } from './workload.ts'

/**
 * The shape of `drawbridge.yaml`. Every leaf says in its message what is accepted there; load.ts puts the place and what
 * was found in front. `node config/schema.ts` writes the JSON Schema that editors use.
 */

const MINUTE = 60_000
const HOUR = 60 * MINUTE

/** A text, as it stands; `accepts` completes the sentence "expected …". */
function text(accepts: string) {
  return z
    .string({ error: `expected ${accepts}` })
    .min(1, { error: `expected ${accepts}` })
    .max(TEXT_CHARACTERS_MAX)
}
const TEXT_CHARACTERS_MAX = 65_536

function matching(pattern: RegExp, accepts: string) {
  return text(accepts).regex(pattern, { error: `expected ${accepts}` })
}

/** A value that comes out of `${NAME}` is text, so digits in text count as a number. */
function whole(least: number, most: number) {
  const error = `expected a whole number from ${least} to ${most}`
  return z
    .union(
      [
        z.int({ error }),
        z
          .string()
          .regex(/^\d{1,15}$/)
          .transform(Number),
      ],
      { error },
    )
    .refine(n => n >= least && n <= most, { error })
}

function duration(least: number, most: number) {
  return measure(readDuration, DURATION_FORM, least, most)
}

function size(least: number, most: number) {
  return measure(readSize, SIZE_FORM, least, most)
}

function measure(read: (written: string) => number | undefined, form: string, least: number, most: number) {
  return z.string({ error: `expected ${form}` }).transform((written, context) => {
    const value = read(written)
    if (value !== undefined && value >= least && value <= most) return value
    const inWords = read === readDuration ? spell : String
    const error = value === undefined ? `expected ${form}` : `expected between ${inWords(least)} and ${inWords(most)}`
    context.issues.push({ code: 'custom', message: error, input: written })
    return z.NEVER
  })
}

function spell(milliseconds: number): string {
  if (milliseconds < 1_000) return `${milliseconds}ms`
  if (milliseconds < MINUTE) return `${milliseconds / 1_000}s`
  return milliseconds < HOUR ? `${milliseconds / MINUTE}m` : `${milliseconds / HOUR}h`
}

function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const keys = Object.keys(shape).join(', ')
  // About keys it does not know, an issue says only which ones those are; load.ts wants to suggest from the ones there are.
  return z.strictObject(shape, {
    error: issue => (issue.code === 'unrecognized_keys' ? keys : `expected a mapping with ${keys}`),
  })
}

function list<Item extends z.ZodType>(item: Item, accepts: string) {
  return z
    .array(item, { error: `expected ${accepts}` })
    .max(LIST_ITEMS_MAX, { error: `expected at most ${LIST_ITEMS_MAX}` })
}
const LIST_ITEMS_MAX = 1_000

// --- listen -----------------------------------------------------------------------------------------------------------

const ADDRESS_FORM = 'host:port, such as 127.0.0.1:8080 or [::1]:8080'

const address = z.string({ error: `expected ${ADDRESS_FORM}` }).transform((written, context) => {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([^\s[\]:/@]+)):(\d{1,5})$/i.exec(written)
  const host = parts?.[1] ?? parts?.[2]
  const port = Number(parts?.[3])
  if (host !== undefined && port <= 65_535 && !(parts?.[1] && isIP(host) !== 6)) return { host, port }
  context.issues.push({ code: 'custom', message: `expected ${ADDRESS_FORM}`, input: written })
  return z.NEVER
})

const tls = section({
  certificate: text('the path of a PEM file with the certificate and its chain').describe(
    'Path of the PEM file with the certificate and its chain; read again when it changes.',
  ),
  key: text("the path of a PEM file with the certificate's key").describe(
    "Path of the PEM file with the certificate's key.",
  ),
})

const off = z.literal(['off', false]).transform(() => undefined)

function listener(fallback: string) {
  const plain = address.transform(at => at)
  const withTls = section({ address, tls: tls.optional() }).transform(({ address: at, tls: files }) => ({
    ...at,
    ...(files ? { tls: files } : {}),
  }))
  return z
    .union([off, plain, withTls], {
      error: `expected ${ADDRESS_FORM}, or { address, tls: { certificate, key } }, or off`,
    })
    .prefault(fallback)
}

const listen = section({
  http: listener('127.0.0.1:8080').describe('Where git speaks HTTP.'),
  ssh: z
    .union([off, address], { error: `expected ${ADDRESS_FORM}, or off` })
    .prefault('127.0.0.1:2222')
    .describe('Where git speaks SSH.'),
  admin: z
    .union(
      [
        address,
        section({ address, tls: tls.optional() }).transform(({ address: at, tls: files }) => ({
          ...at,
          ...(files ? { tls: files } : {}),
        })),
      ],
      {
        error: `expected ${ADDRESS_FORM}, or { address, tls: { certificate, key } }`,
      },
    )
    .prefault('127.0.0.1:8081')
    .describe('Where the admin API and the console are.'),
  metrics: section({
    proxy: address.optional().describe('Where a proxy answers /metrics, /healthz and /readyz.'),
    admin: address.optional().describe('Where the admin role answers them, besides its own listener.'),
    ca: address.optional().describe('Where the ca role answers them.'),
  }).optional(),
})

// --- engines ----------------------------------------------------------------------------------------------------------

const HOST_PORT = /^(?:\[[0-9a-f:.]+\]|[^\s[\]:/@,]+):\d{1,5}$/i
const REDIS_FORM = 'embedded, redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH, or { sentinels, name }'

const redisUrl = text(REDIS_FORM).transform((written, context) => {
  const refuse = (message: string) => {
    context.issues.push({ code: 'custom', message, input: written })
    return z.NEVER
  }
  if (written === 'embedded') return written
  if (/^(redis\+)?cluster:/i.test(written)) return refuse(NO_CLUSTER)
  const url = URL.canParse(written) ? new URL(written) : undefined
  if (url?.protocol === 'unix:' && url.pathname.length > 1) return written
  if (
    (url?.protocol === 'redis:' || url?.protocol === 'rediss:') &&
    url.hostname &&
    /^(\/\d{0,3})?$/.test(url.pathname)
  )
    return written
  return refuse(`expected ${REDIS_FORM}`)
})
const NO_CLUSTER =
  'Redis Cluster is not supported yet: one decision reads several keys at once; use one Redis or Sentinel'

const sentinels = section({
  sentinels: list(matching(HOST_PORT, 'host:port'), 'a list of host:port').min(1, {
    error: 'expected at least one host:port',
  }),
  name: matching(/^[\w.-]{1,100}$/, 'the name of the master, such as mymaster'),
  username: text('a user name').optional(),
  password: text('a password').optional(),
  db: whole(0, 999).prefault(0),
}).transform(({ sentinels: hosts, name, username, password, db }) => {
  const who = password ? `${encodeURIComponent(username ?? 'default')}:${encodeURIComponent(password)}@` : ''
  return `sentinel://${who}${hosts.join(',')}/${name}/${db}`
})

const POSTGRES_FORM = 'embedded, or postgres://USER@HOST:PORT/DATABASE'
const postgres = text(POSTGRES_FORM).refine(
  written =>
    written === 'embedded' ||
    (/^postgres(ql)?:\/\//.test(written) && URL.canParse(written) && new URL(written).pathname.length > 1),
  { error: `expected ${POSTGRES_FORM}` },
)

// --- upstreams --------------------------------------------------------------------------------------------------------

const secret = (accepts: string) =>
  text(accepts).describe('Write { file: PATH } or ${NAME} rather than the secret itself.')

/** Filled in for each operation; a mistyped placeholder would name somebody who does not exist, or everybody alike. */
function template(accepts: string) {
  const form = `${accepts}, in which {principal} and {principal.login} stand for whom it is for`
  return text(form).refine(written => !/[{}]/.test(written.replaceAll(/\{principal(\.login)?\}/g, '')), {
    error: `expected ${form}`,
  })
}

const credentials = {
  none: section({ type: z.literal('none') }),
  basic: section({ type: z.literal('basic'), username: text('a user name'), password: secret('a password') }),
  bearer: section({ type: z.literal('bearer'), token: secret('a token') }),
  'ssh-key': section({
    type: z.literal('ssh-key'),
    username: text('a user name').default('git'),
    private_key: secret('a private key in OpenSSH or PEM form'),
  }),
  'ssh-certificate': section({
    type: z.literal('ssh-certificate'),
    principal: template('the name the host takes for the account').default('git'),
    key_id: template('what the host writes into its log, or knows the user by').default('{principal}'),
    extensions: z
      .record(
        matching(/^[a-z0-9-]+@[a-z0-9.-]+$/, "an extension of the host's maker, such as login@github.com"),
        template('a text'),
        { error: 'expected a mapping of extension names to texts' },
      )
      .default({}),
  }),
}

const credential = z
  .discriminatedUnion(
    'type',
    [credentials.none, credentials.basic, credentials.bearer, credentials['ssh-key'], credentials['ssh-certificate']],
    {
      error: `expected a mapping whose type is ${Object.keys(credentials).join(', ')}`,
    },
  )
  .transform(chosen => {
    if (chosen.type === 'ssh-certificate') {
      const { type, principal, key_id: keyId, extensions } = chosen
      return { type, principal, keyId, extensions }
    }
    if (chosen.type !== 'ssh-key') return chosen
    return { type: chosen.type, username: chosen.username, privateKey: chosen.private_key }
  })

const UPSTREAM_URL_FORM = 'a URL such as https://git.example/, ssh://git@host:22/ or file:///srv/git/'

const upstreamUrl = z.string({ error: `expected ${UPSTREAM_URL_FORM}` }).transform((written, context) => {
  const refuse = (message: string) => {
    context.issues.push({ code: 'custom', message, input: written })
    return z.NEVER
  }
  const url = URL.canParse(written) ? new URL(written) : undefined
  if (!url || !['https:', 'http:', 'ssh:', 'file:'].includes(url.protocol))
    return refuse(`expected ${UPSTREAM_URL_FORM}`)
  if (url.protocol === 'file:' ? url.hostname !== '' : url.hostname === '')
    return refuse(`expected ${UPSTREAM_URL_FORM}`)
  if (url.password !== '' || (url.username !== '' && url.protocol !== 'ssh:')) {
    return refuse('expected no credential in the URL; write it under credential')
  }
  if (url.search !== '' || url.hash !== '') return refuse('expected a URL without ? and #')
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return url
})

const upstream = section({
  url: upstreamUrl.describe('Base of the repositories: REPOSITORY.git is looked for below it.'),
  credential: credential
    .prefault({ type: 'none' })
    .describe('How we identify ourselves to the host: type none, basic, bearer, ssh-key or ssh-certificate.'),
  host_keys: list(
    matching(
      /^(SHA256:[A-Za-z0-9+/]{43}=?|(@cert-authority\s+)?[a-z0-9@.-]+\s+[A-Za-z0-9+/]+={0,2}(\s.*)?)$/,
      HOST_KEY_FORM(),
    ),
    'a list of host keys',
  )
    .default([])
    .describe('Keys the SSH host may show, as known_hosts writes them.'),
  connect_timeout: duration(100, 5 * MINUTE)
    .prefault('10s')
    .describe('Longest wait for a connection.'),
  idle_timeout: duration(1_000, 6 * HOUR)
    .prefault('5m')
    .describe('Longest wait for the next byte while an answer is due.'),
  connections: whole(1, 10_000).prefault(100).describe('How many connections to this host at once.'),
}).superRefine(({ url, credential: chosen, host_keys: keys }, context) => {
  const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message })
  const allowed = CREDENTIALS_BY_PROTOCOL[url.protocol] ?? []
  if (!allowed.includes(chosen.type))
    refuse(['credential', 'type'], `expected ${allowed.join(' or ')} for ${url.protocol}// upstreams`)
  // An unpinned host gets the credential of whoever answers at its address.
  if (url.protocol === 'ssh:' && keys.length === 0) {
    refuse(
      ['host_keys'],
      `an ssh:// upstream needs the host's keys; ssh-keyscan ${url.hostname} shows them, compare with the host's own word`,
    )
  }
  if (url.protocol !== 'ssh:' && keys.length > 0) refuse(['host_keys'], 'only ssh:// upstreams have host keys')
})

const CREDENTIALS_BY_PROTOCOL: Readonly<Record<string, readonly string[]>> = {
  'https:': ['none', 'basic', 'bearer'],
  'http:': ['none', 'basic', 'bearer'],
  'ssh:': ['ssh-key', 'ssh-certificate'],
  'file:': ['none'],
}

function HOST_KEY_FORM(): string {
  return 'a host key: "ssh-ed25519 AAAA…", "SHA256:…" or "@cert-authority ssh-ed25519 AAAA…"'
}

// --- the rest ---------------------------------------------------------------------------------------------------------

const publicUrl = (...protocols: string[]) => {
  const accepts = `a URL that begins with ${protocols.join(' or ')}`
  return text(accepts)
    .refine(written => protocols.some(p => written.startsWith(p)) && URL.canParse(written), {
      error: `expected ${accepts}`,
    })
    .transform(written => written.replace(/\/+$/, ''))
}

const CIDR_FORM = 'an address or network, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32'
const cidr = text(CIDR_FORM).refine(
  written => {
    const [network = '', bits, ...more] = written.split('/')
    const family = isIP(network)
    return (
      family !== 0 &&
      more.length === 0 &&
      (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)))
    )
  },
  { error: `expected ${CIDR_FORM}` },
)

const limits = section({
  commands: whole(1, 1_000_000).prefault(10_000).describe('Ref updates in one push.'),
  connections_per_source: whole(1, 1_000_000).prefault(100).describe('Connections from one client address.'),
  connections: whole(1, 1_000_000).prefault(10_000).describe('Connections in all, each listener.'),
  login_grace: duration(1_000, 10 * MINUTE)
    .prefault('30s')
    .describe('Time an SSH client has to log in.'),
  login_attempts: whole(1, 100).prefault(6).describe('Attempts to log in on one SSH connection.'),
  channels: whole(1, 1_000).prefault(10).describe('Channels at once on one SSH connection.'),
  headers: duration(1_000, 10 * MINUTE)
    .prefault('15s')
    .describe("Time an HTTP client has to send a request's head."),
  body_idle: duration(1_000, 6 * HOUR)
    .prefault('5m')
    .describe('Longest wait for the next byte from or to a client.'),
  total: duration(MINUTE, 30 * 24 * HOUR)
    .prefault('12h')
    .describe('Longest operation.'),
  drain: duration(0, 24 * HOUR)
    .prefault('60s')
    .describe('Time running operations have to finish after SIGTERM.'),
  redis_silence: duration(100, 5 * MINUTE)
    .prefault('3s')
    .describe('How long Redis may be unreachable before everything running is cut.'),
})

// The record tells who works on what: in the clear it goes no further than this machine.
const ENCRYPTED_FORM = 'an https:// URL (http:// on this machine only), without ? and #'
const encryptedUrl = text(ENCRYPTED_FORM)
  .refine(
    written => {
      const url = URL.canParse(written) ? new URL(written) : undefined
      if (url?.username !== '' || url.search !== '' || url.hash !== '') return false
      const here = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
      return url.protocol === 'https:' || (url.protocol === 'http:' && here)
    },
    { error: `expected ${ENCRYPTED_FORM}` },
  )
  .transform(written => new URL(written))

/** Standard Webhooks: 24 bytes or more, in base64 that can be read. */
const WEBHOOK_SECRET = /^whsec_(?:[A-Za-z0-9+/]{4}){8,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

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
    stream: matching(/^[\w:.-]{1,200}$/, 'the key of a stream').default('drawbridge:ledger'),
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

const ledger = section({
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

const reuse = section({
  enabled: z
    .boolean({ error: 'expected true or false' })
    .default(false)
    .describe('Whether clients that fetch the same share one answer of the host.'),
  ttl: duration(0, HOUR).prefault('60s').describe('How long an answer is kept after it was whole; 0s: not at all.'),
  bytes: size(16 << 20, 2 ** 44)
    .prefault('4GiB')
    .describe('Most disk for answers, for each proxy.'),
  folder: text('the path of a folder').optional().describe('Where answers lie; `NAME/reuse` below state unless given.'),
})

const ssh = section({
  host_keys: list(text('the path of a private key'), 'a list of paths')
    .default([])
    .describe('Paths of private host keys; none: one is made below state.'),
  trusted_user_ca_keys: list(text('a public key: "ssh-ed25519 AAAA…"'), 'a list of public keys')
    .default([])
    .describe('User certificate authorities trusted beside our own, as in TrustedUserCAKeys.'),
})

const ca = section({
  directory: text('the path of a folder')
    .optional()
    .describe('Private to the certificate authority; `ca` below state unless given.'),
  socket: text('the path of a unix socket')
    .optional()
    .describe('Where the authority is asked; `ca.sock` below state unless given.'),
  passphrase: secret('a passphrase').optional().describe('Of the keys kept in files.'),
})

// --- notify -----------------------------------------------------------------------------------------------------------

const hours = section({
  days: text(DAYS_FORM).refine(written => readDays(written) !== undefined, { error: `expected ${DAYS_FORM}` }),
  from: text(CLOCK_FORM).refine(written => readClock(written) !== undefined, { error: `expected ${CLOCK_FORM}` }),
  to: text(CLOCK_FORM).refine(written => readClock(written) !== undefined, { error: `expected ${CLOCK_FORM}` }),
  zone: text('an IANA time zone')
    .refine(isZone, { error: 'expected an IANA time zone such as Europe/Berlin' })
    .prefault('UTC'),
}).transform(({ days, from, to, zone }) =>
  weekly(zone, [{ days: readDays(days) ?? [], from: readClock(from) ?? 0, to: readClock(to) ?? 0 }]),
)

const repositoryName = text('a repository as <upstream>/<path>, with * and **').refine(
  written => checkRepositoryPattern(written) === undefined,
  { error: 'expected a repository as <upstream>/<path>, where * is part of one segment and ** several' },
)

const told = {
  events: list(z.literal(EVENTS, { error: `expected one of ${EVENTS.join(', ')}` }), 'a list of events')
    .optional()
    .describe('Only these are told; all when left out.'),
  repositories: list(repositoryName, 'a list of repositories')
    .optional()
    .describe('Only about these; all when left out.'),
  hours: hours.optional().describe('Outside of them notices wait, except break-glass and locks.'),
}

/** Where our notices go is the operator's word alone; only to this machine itself do they go unencrypted. */
const outside = (accepts: string, protocols: readonly string[]) =>
  z.string({ error: `expected ${accepts}` }).transform((written, context) => {
    const url = URL.canParse(written) ? new URL(written) : undefined
    const here = url !== undefined && isHere(url)
    const sealed = url !== undefined && protocols.includes(url.protocol)
    if (url?.hostname && (sealed || (here && url.protocol === 'http:')) && !url.username && !url.password) return url
    context.issues.push({ code: 'custom', message: `expected ${accepts}`, input: 'a URL that is not shown' })
    return z.NEVER
  })
const isHere = ({ hostname }: URL) => /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
const SMTP_FORM = 'a URL such as smtps://mail.acme.example:465 or smtp://mail.acme.example:587, without a user name'
const HTTPS_FORM = 'an https:// URL without a user name (http:// on this machine only)'
const mailAddress = matching(/^[^\s@<>"(),:;[\]\\]{1,64}@[A-Za-z0-9.-]{1,253}$/, 'an address such as ops@acme.example')

const channels = {
  webhook: section({
    type: z.literal('webhook'),
    url: outside(HTTPS_FORM, ['https:']),
    secret: matching(/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/, 'whsec_ and at least 24 bytes in base64').describe(
      'What notices are signed with. Write { file: PATH } or ${NAME} rather than the secret itself.',
    ),
    ...told,
  }),
  email: section({
    type: z.literal('email'),
    smtp: outside(SMTP_FORM, ['smtp:', 'smtps:']),
    username: text('a user name').optional(),
    password: secret('a password').optional(),
    from: mailAddress.describe('The sender.'),
    unsubscribe: matching(/^(mailto:|https:\/\/)[\x21-\x7e]{3,500}$/, 'a mailto: or https:// address')
      .optional()
      .describe('What List-Unsubscribe says; the sender unless given.'),
    also: list(mailAddress, 'a list of addresses').default([]).describe('These hear everything this channel tells.'),
    ...told,
  }).transform(({ unsubscribe, ...said }) => ({
    ...said,
    // A password in the clear is everybody's on the way.
    requireTls: said.smtp.protocol === 'smtp:' && !isHere(said.smtp),
    unsubscribe: unsubscribe ?? `mailto:${said.from}?subject=unsubscribe`,
  })),
  slack: section({
    type: z.literal('slack'),
    token: matching(/^xoxb-[\x21-\x7e]{8,300}$/, "the bot's token, xoxb-…").describe(
      'Write { file: PATH } or ${NAME} rather than the secret itself.',
    ),
    channel: matching(/^[CG][A-Z0-9]{2,30}$/, "a channel's id such as C012ABC").describe('Where requests are shown.'),
    signing_secret: matching(/^[0-9a-f]{16,128}$/, "the app's signing secret")
      .optional()
      .describe('Of what Slack sends to /channels/NAME; without it nothing is taken from there.'),
    api: outside(HTTPS_FORM, ['https:']).optional().describe("Where the Web API is; Slack's own unless given."),
    ...told,
  }).transform(({ signing_secret: signingSecret, ...said }) => ({ ...said, signingSecret })),
}

const channel = z.discriminatedUnion('type', [channels.webhook, channels.email, channels.slack], {
  error: `expected a mapping whose type is ${Object.keys(channels).join(', ')}`,
})

const notify = section({
  ending: duration(MINUTE, 24 * HOUR)
    .prefault('10m')
    .describe('How long before its end a window is announced.'),
  give_up: duration(MINUTE, 30 * 24 * HOUR)
    .prefault('24h')
    .describe('How long a notice is tried; then it is listed as dead, and can be sent again.'),
  people: z
    .record(
      text('a principal'),
      section({
        email: mailAddress.optional(),
        slack: matching(/^[UW][A-Z0-9]{2,20}$/, "a member's id such as U012ABC").optional(),
      }),
    )
    .default({})
    .describe('How people are reached where the names they sign in with do not say.'),
  channels: z
    .record(matching(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a name of lower-case letters, digits and -'), channel)
    .default({})
    .describe('Where notices go, by name: type webhook, email or slack.'),
}).transform(({ ending, give_up: giveUp, people, channels: named }) => ({
  ending,
  giveUp,
  people: new Map(Object.entries(people)),
  channels: Object.entries(named).map(([name, said]) => ({ name, ...said })),
}))

// --- hooks ------------------------------------------------------------------------------------------------------------

const host = {
  secret: matching(/^[\x21-\x7e]{16,300}$/, 'a secret of 16 characters or more').describe(
    'What the host proves itself by.',
  ),
  upstream: text('the name of an upstream').describe('Which of the upstreams it is.'),
  organization: text('a name at the host')
    .optional()
    .describe('Members who leave this organization or top group are locked out; nobody is without it.'),
  principal: text('a name with {login} in it')
    .default('{login}')
    .describe('The principal of somebody whose name at the host is {login}.'),
}
const hookKinds = {
  revoke: section({
    type: z.literal('revoke'),
    secret: matching(/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/, 'whsec_ and at least 24 bytes in base64'),
  }),
  github: section({ type: z.literal('github'), ...host }),
  gitlab: section({ type: z.literal('gitlab'), ...host }),
}
const hooks = z
  .record(
    matching(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a name of lower-case letters, digits and -'),
    z.discriminatedUnion('type', [hookKinds.revoke, hookKinds.github, hookKinds.gitlab], {
      error: `expected a mapping whose type is ${Object.keys(hookKinds).join(', ')}`,
    }),
  )
  .transform(named => Object.entries(named).map(([name, said]) => ({ name, ...said })))

const ISSUER_FORM = "the provider's issuer: an https:// URL (http:// on this machine only), without ? and #"
const claimName = (accepts: string) => matching(/^[\x21-\x7e]{1,200}$/, accepts)
const texts = (accepts: string) => list(text(accepts), `a list of texts, each ${accepts}`)

const issuer = z.string({ error: `expected ${ISSUER_FORM}` }).transform((written, context) => {
  const url = URL.canParse(written) ? new URL(written) : undefined
  const here = url?.protocol === 'http:' && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (url && (url.protocol === 'https:' || here) && !url.username && !url.search && !url.hash) return url
  context.issues.push({ code: 'custom', message: `expected ${ISSUER_FORM}`, input: written })
  return z.NEVER
})

const login = section({
  issuer: issuer.describe('The issuer of the OpenID Connect provider people sign in with.'),
  client_id: text('the client id the provider has for us').describe('What the provider calls this gate.'),
  client_secret: secret('a client secret').optional().describe('Its secret; none: a public client.'),
  scopes: texts('a scope')
    .default(['openid', 'profile', 'email'])
    .describe('What is asked of the provider; `openid` is always asked.'),
  principal: claimName('the name of a claim')
    .default('preferred_username')
    .describe(
      "The claim that becomes the person's name at the gate; `email` counts only where the provider verified it.",
    ),
  groups: claimName('the name of a claim').default('groups').describe("The claim that lists the person's groups."),
  domains: list(matching(/^[a-z0-9.-]{1,253}$/, 'a domain in lower case'), 'a list of domains')
    .default([])
    .describe('Names must be addresses in one of these domains; none: any name.'),
  require: z
    .record(z.string(), z.union([text('a text').transform(one => [one]), texts('a value')]), {
      error: 'expected a mapping of claims to the value, or values, they must have',
    })
    .default({})
    .describe('Claims that must be there, with the value or values they may have.'),
  roles: section({
    approver: texts('a group').default([]),
    auditor: texts('a group').default([]),
    admin: texts('a group').default([]),
  })
    .prefault({})
    .describe('Groups whose members have a role; everybody who signs in is a developer.'),
  mfa: section({
    amr: texts('a method').default(['mfa', 'hwk', 'otp', 'swk', 'fido', 'sms']),
    acr: texts('a class').default([]),
    required: z.boolean({ error: 'expected true or false' }).default(false),
  })
    .prefault({})
    .describe(
      'Values of the claims `amr` and `acr` that stand for a second factor, and whether nobody signs in without.',
    ),
  lasts: duration(5 * MINUTE, 24 * HOUR)
    .prefault('12h')
    .describe('How long a sign-in is good.'),
  token: duration(MINUTE, HOUR).prefault('15m').describe('How long one token of it is good; renewed by itself.'),
})

const CONTROL_FORM = 'https://HOST:PORT, or http://127.0.0.1:PORT on the same machine'
const control = section({
  url: publicUrl('https://', 'http://')
    .refine(
      // The token would be everybody's on the way.
      written => /^https:|^http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(\/|$)/.test(written),
      { error: `expected ${CONTROL_FORM}` },
    )
    .describe('The admin address of the control plane, by which `ssh GATE request` and the like ask it.'),
  token_file: text('the path of a file').describe(
    'Holds a token with the role front, by which this gate speaks for who logged in over SSH; read at each use.',
  ),
  ca_file: text('the path of a file').optional().describe('Certificates to trust besides, PEM.'),
})

const presetNames = Object.keys(PRESETS) as PresetName[]
const workload = section({
  preset: z
    .literal(presetNames, { error: `expected ${presetNames.join(', ')}` })
    .describe(`Which CI system: ${presetNames.join(', ')}.`),
  issuer: issuer.optional().describe('Its issuer, where it is not the usual one of that CI system.'),
  audience: text('the audience jobs ask for').describe('The `aud` tokens must have, and the only one.'),
  claims: z
    .record(z.string(), z.union([text('a text').transform(one => [one]), texts('a value')]), {
      error: 'expected a mapping of claims to the value, or values, they may have',
    })
    .describe(
      'Claims by their value, values, or patterns with `*`; an id that is never given again must be among them.',
    ),
  lasts: duration(MINUTE, 12 * HOUR)
    .prefault('1h')
    .describe('How long the token is good that a job is given.'),
}).superRefine(({ preset, issuer: at, claims }, context) => {
  const known: Preset = PRESETS[preset]
  if (at === undefined && known.issuer === undefined) {
    context.addIssue({
      code: 'custom',
      path: ['issuer'],
      message: `expected the issuer; ${preset} has one for each organisation`,
    })
  }
  const fault = claimsFault(preset, new Map(Object.entries(claims)))
  if (fault !== undefined) context.addIssue({ code: 'custom', path: ['claims'], message: fault })
})

/** `drawbridge.yaml` as written; parsing it gives values in milliseconds and bytes with every default filled in. */
export const SETTINGS = section({
  name: matching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a name of letters, digits, dot, dash and underscore')
    .optional()
    .describe(
      "This gate's name in records, unique among the gates that share a ledger; the machine's name unless given.",
    ),
  public_http: publicUrl('https://', 'http://').optional().describe('The URL people reach git over HTTP by.'),
  public_ssh: publicUrl('ssh://').optional().describe('The URL people reach git over SSH by.'),
  public_admin: publicUrl('https://', 'http://')
    .optional()
    .describe('The URL people reach the admin API and console by.'),
  listen: listen.prefault({}),
  redis: z.union([sentinels, redisUrl], { error: `expected ${REDIS_FORM}` }).describe('Where live grants are.'),
  postgres: postgres.describe('Where the ledger, requests and grants are.'),
  state: text('the path of a folder')
    .default('var')
    .describe('Folder for the spool, keys kept in files and embedded engines; relative to this file.'),
  upstreams: z
    .record(
      matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'a name of lower-case letters, digits, dot, dash and underscore'),
      upstream,
      {
        error: 'expected a mapping of names to upstreams',
      },
    )
    .describe('The Git hosts behind this gate; the name is the first part of every repository on it.'),
  policy: text('the path of a policy file')
    .optional()
    .describe('Path of the policy file or folder; relative to this file.'),
  control: control.optional(),
  login: login.optional(),
  workloads: z
    .record(matching(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'a name'), workload, {
      error: 'expected a mapping of names to workloads',
    })
    .optional()
    .describe('CI jobs that may exchange their own token for one of the gate.'),
  ssh: ssh.prefault({}),
  ca: ca.optional().describe('The SSH certificate authority of this gate; without this section there is none.'),
  proxy_protocol: list(cidr, 'a list of networks')
    .default([])
    .describe('Load balancers that speak PROXY protocol to us; from anybody else it is refused.'),
  limits: limits.prefault({}),
  ledger: ledger.prefault({}),
  notify: notify.optional(),
  hooks: hooks
    .optional()
    .describe('Who may tell the gate from outside that access is to end: type revoke, github or gitlab.'),
  reuse: reuse.prefault({}),
}).superRefine(({ ca: authority, upstreams }, context) => {
  if (authority !== undefined) return
  for (const [name, { credential: chosen }] of Object.entries(upstreams)) {
    if (chosen.type !== 'ssh-certificate') continue
    const message =
      "expected ssh-key, or a section ca as well: ssh-certificate is signed by the gate's own authority, and this file has none"
    context.addIssue({ code: 'custom', path: ['upstreams', name, 'credential', 'type'], message })
  }
})

export type Written = z.output<typeof SETTINGS>

/** The JSON Schema of the file, for editors: what may be written, before `${NAME}` and `{ file }` are filled in. */
export function jsonSchema(): unknown {
  const schema = z.toJSONSchema(SETTINGS, { io: 'input', target: 'draft-2020-12', reused: 'inline' })
  return {
    $schema: schema.$schema,
    title: 'drawbridge.yaml',
    description:
      'Settings of the Drawbridge Git gate. Any text or number may also be ${NAME} (environment) or { file: PATH }.',
    ...(fromElsewhere(schema) as object),
    $defs: {
      elsewhere: {
        anyOf: [
          { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' },
          { type: 'object', properties: { file: { type: 'string' } }, required: ['file'], additionalProperties: false },
        ],
      },
    },
  }
}

/** Every leaf may come from the environment or from a file; zod does not know, because that is filled in before it reads. */
function fromElsewhere(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(fromElsewhere)
  if (typeof node !== 'object' || node === null) return node
  const { propertyNames, default: fallback, description, ...rest } = node as Record<string, unknown>
  const notes = {
    ...(description === undefined ? {} : { description }),
    ...(fallback === undefined ? {} : { default: fallback }),
  }
  const inner = Object.fromEntries(
    Object.entries(rest).map(([key, value]) => [key, KEPT.has(key) ? value : fromElsewhere(value)]),
  )
  const leaf =
    ['string', 'integer', 'number'].includes(String(rest.type)) && rest.const === undefined && rest.enum === undefined
  const names = propertyNames === undefined ? {} : { propertyNames }
  return leaf ? { ...notes, anyOf: [inner, { $ref: '#/$defs/elsewhere' }] } : { ...notes, ...inner, ...names }
}
const KEPT = new Set(['$schema', 'enum', 'const', 'required', 'pattern'])

if (import.meta.main) {
  const file = new URL('drawbridge.schema.json', import.meta.url)
  writeFileSync(file, `${JSON.stringify(jsonSchema(), null, 2)}\n`)
}
