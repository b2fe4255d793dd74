import { z } from 'zod'
import { duration, HOUR, list, MINUTE, matching, secret, section, text, whole } from './value.ts'

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

export const credential = z
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

export const upstream = section({
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
