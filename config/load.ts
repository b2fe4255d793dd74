import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { z } from 'zod'
import { fillIn, originKey, reason } from './fill.ts'
import { nearMiss } from './nearmiss.ts'
import { find, type Path, written } from './path.ts'
import { ConfigError, type Problem } from './problem.ts'
import { SETTINGS, type Written } from './schema.ts'
import type { Address, Listener, LoginRole, LoginSettings, Settings, Tls, UpstreamSettings } from './settings.ts'
import { SOCKET_PATH_BYTES_MAX, socketsTooDeep } from './sockets.ts'
import { PRESETS, type Preset, type WorkloadSettings } from './workload.ts'
import { readYaml, type Yaml } from './yaml.ts'

/**
 * Reads `drawbridge.yaml`: values from the environment and from files filled in, every default in place, paths absolute.
 *
 * For a reload call it again and compare; a file that does not load throws and changes nothing.
 * @throws ConfigError naming every problem at once, by line and column; no secret is in it
 */
export function loadSettings(file: string, env: NodeJS.ProcessEnv): Settings {
  const path = resolve(file)
  const yaml = readYaml(readText(path, file), file)
  const filled = fillIn(yaml.value ?? {}, env, dirname(path))
  const unfilled = new Set(filled.problems.map(problem => originKey(problem.path)))
  const parsed = SETTINGS.safeParse(filled.value)

  const problems: Problem[] = filled.problems.map(problem => ({
    ...yaml.at(problem.path),
    path: written(problem.path),
    message: problem.message,
  }))
  for (const issue of parsed.error?.issues ?? []) {
    for (const problem of explain(issue, [], { yaml, value: filled.value, origins: filled.origins })) {
      if (!unfilled.has(originKey(problem.at))) problems.push(problem)
    }
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError(file, problems)
  const loaded = settings(parsed.data, path)
  const tooDeep = tooDeepSockets(loaded, parsed.data, yaml)
  if (tooDeep.length > 0) throw new ConfigError(file, tooDeep)
  return loaded
}

/** One problem for each setting a socket's path comes from; what is not written comes from `state`. */
function tooDeepSockets(loaded: Settings, given: Written, yaml: Yaml): Problem[] {
  const found = new Map<string, Problem>()
  for (const { setting, path, bytes } of socketsTooDeep(loaded)) {
    const place = find(given, setting) === undefined ? ['state'] : setting
    const message = `too deep a folder: its socket ${path} has ${bytes} bytes, and a unix socket's path at most ${SOCKET_PATH_BYTES_MAX}`
    if (!found.has(written(place))) found.set(written(place), { ...yaml.at(place), path: written(place), message })
  }
  return [...found.values()]
}

function readText(path: string, file: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new ConfigError(file, [{ line: 1, column: 1, path: '', message: `cannot be read: ${reason(cause)}` }], {
      cause,
    })
  }
}

/** Below the state folder: what the authority gives the listeners. */
const TLS_FOLDER = 'tls'

function settings(given: Written, file: string): Settings {
  const folder = dirname(file)
  const absolute = (path: string) => resolve(folder, path)
  const { http, ssh, admin, metrics } = given.listen
  const state = absolute(given.state)
  const withTls = (name: 'http' | 'admin', { tls, ...at }: Address & { readonly tls?: 'ca' | Tls }): Listener => {
    if (tls === undefined) return at
    if (tls !== 'ca') return { ...at, tls: { certificate: absolute(tls.certificate), key: absolute(tls.key) } }
    const file = join(state, TLS_FOLDER, `${name}.pem`)
    return { ...at, tls: { certificate: file, key: file, issued: true } }
  }
  return {
    file,
    name:
      given.name ??
      hostname()
        .replaceAll(/[^A-Za-z0-9._-]/g, '-')
        .slice(0, 64),
    publicHttp: given.public_http,
    publicSsh: given.public_ssh,
    publicAdmin: given.public_admin,
    listen: {
      ...(http && { http: withTls('http', http) }),
      ...(ssh && { ssh }),
      admin: withTls('admin', admin),
      ...(metrics && { metrics }),
    },
    redis: given.redis,
    postgres: given.postgres,
    state,
    upstreams: new Map(Object.entries(given.upstreams).map(([name, host]) => [name, upstream(name, host)])),
    policy: policyOf(given, absolute),
    ...(given.control && {
      control: {
        url: given.control.url,
        tokenFile: absolute(given.control.token_file),
        ...(given.control.ca_file !== undefined && { caFile: absolute(given.control.ca_file) }),
      },
    }),
    ...(given.login && { login: login(given.login) }),
    ...(given.workloads && { workloads: Object.entries(given.workloads).map(workload) }),
    ssh: {
      hostKeys: given.ssh.host_keys.map(absolute),
      // One entry may be a whole file of keys.
      trustedUserCAKeys: given.ssh.trusted_user_ca_keys.flatMap(keys =>
        keys
          .split('\n')
          .map(line => line.trim())
          .filter(line => line !== '' && !line.startsWith('#')),
      ),
    },
    ca: {
      configured: given.ca !== undefined,
      directory: given.ca?.directory === undefined ? join(state, 'ca') : absolute(given.ca.directory),
      socket: given.ca?.socket === undefined ? join(state, 'ca.sock') : absolute(given.ca.socket),
      passphrase: given.ca?.passphrase,
      ...keyServices(given.ca, absolute),
    },
    workers: given.workers,
    proxyProtocol: given.proxy_protocol,
    limits: {
      commands: given.limits.commands,
      connectionsPerSource: given.limits.connections_per_source,
      connections: given.limits.connections,
      loginGrace: given.limits.login_grace,
      loginAttempts: given.limits.login_attempts,
      channels: given.limits.channels,
      headers: given.limits.headers,
      bodyIdle: given.limits.body_idle,
      total: given.limits.total,
      drain: given.limits.drain,
      redisSilence: given.limits.redis_silence,
    },
    ...(given.notify && { notify: given.notify }),
    ...(given.hooks && { hooks: given.hooks }),
    ...(given.on_call && { onCall: given.on_call }),
    ...(given.telemetry?.traces && { traces: given.telemetry.traces }),
    ledger: {
      whenAway: given.ledger.when_away,
      spoolBytes: given.ledger.spool,
      ...(given.ledger.retention !== undefined && { retention: given.ledger.retention }),
      ...(given.ledger.archive !== undefined && { archive: absolute(given.ledger.archive) }),
      heads: given.ledger.heads,
      forward: Object.entries(given.ledger.forward).map(([name, one]) => ({ name, ...one })),
    },
    reuse: {
      enabled: given.reuse.enabled,
      ttl: given.reuse.ttl,
      bytes: given.reuse.bytes,
      folder: given.reuse.folder === undefined ? undefined : absolute(given.reuse.folder),
    },
  }
}

function policyOf(given: Written, absolute: (path: string) => string): Settings['policy'] {
  const { policy, public_http: publicHttp } = given
  const { http } = given.listen
  if (typeof policy !== 'object') return policy === undefined ? undefined : absolute(policy)
  const { repository, ref, path = '', every, ca } = policy
  const here = http && `${'tls' in http && http.tls !== undefined ? 'https' : 'http'}://${http.host}:${http.port}`
  const url = policy.url ?? publicHttp ?? here ?? ''
  return { repository, ref, path, every, url, ...(ca !== undefined && { caFile: absolute(ca) }) }
}

function workload([name, given]: [string, NonNullable<Written['workloads']>[string]]): WorkloadSettings {
  const { preset, issuer, audience, claims, lasts } = given
  const known: Preset = PRESETS[preset]
  // The schema refuses a preset without either.
  const at = issuer ?? new URL(known.issuer ?? '')
  return { name, preset, issuer: at, audience, claims: new Map(Object.entries(claims)), lasts }
}

function login(given: NonNullable<Written['login']>): LoginSettings {
  const { issuer, client_id: clientId, client_secret: clientSecret, scopes, principal, groups, domains, mfa } = given
  return {
    issuer,
    clientId,
    ...(clientSecret !== undefined && { clientSecret }),
    scopes: [...new Set(['openid', ...scopes])],
    principal,
    groups,
    domains,
    require: new Map(Object.entries(given.require)),
    roles: new Map(Object.entries(given.roles) as [LoginRole, string[]][]),
    mfa,
    lasts: given.lasts,
    token: given.token,
    ...(given.recheck !== undefined && { recheck: given.recheck }),
  }
}

function keyServices(given: Written['ca'], absolute: (path: string) => string): Pick<Settings['ca'], 'vault' | 'kms'> {
  const { vault, kms } = given ?? {}
  return {
    ...(vault && {
      vault: {
        address: vault.address,
        tokenFile: absolute(vault.token_file),
        ...(vault.mount !== undefined && { mount: vault.mount }),
        ...(vault.namespace !== undefined && { namespace: vault.namespace }),
      },
    }),
    ...(kms && {
      kms: {
        credentialsFile: absolute(kms.credentials_file),
        ...(kms.endpoint !== undefined && { endpoint: kms.endpoint }),
      },
    }),
  }
}

function upstream(name: string, given: Written['upstreams'][string]): UpstreamSettings {
  return {
    name,
    url: given.url,
    credential: given.credential,
    hostKeys: given.host_keys,
    connectTimeout: given.connect_timeout,
    idleTimeout: given.idle_timeout,
    connections: given.connections,
  }
}

// --- what is wrong, in words ------------------------------------------------------------------------------------------

interface Source {
  readonly yaml: Yaml
  readonly value: unknown
  readonly origins: ReadonlyMap<string, string>
}

type Explained = Problem & { readonly at: Path }

function explain(issue: z.core.$ZodIssue, above: Path, source: Source): Explained[] {
  const path: Path = [...above, ...issue.path.map(part => (typeof part === 'number' ? part : String(part)))]
  if (issue.code === 'unrecognized_keys') {
    const known = issue.message.split(', ')
    return issue.keys.map(key => {
      const meant = nearMiss(key, known)
      const hint = meant ? `; did you mean ${meant}?` : `; known here: ${known.join(', ')}`
      const at = [...path, key]
      return { ...source.yaml.atKey(at), path: written(at), at, message: `unknown key${hint}` }
    })
  }
  if (issue.code === 'invalid_union') {
    const meant = issue.errors.filter(branch => branch.every(inner => isInside(inner)))
    if (meant.length === 1) return meant[0]!.flatMap(inner => explain(inner, path, source))
  }
  if (issue.code === 'invalid_key') {
    const message = `${shown(path.at(-1))} cannot be a name here: ${issue.issues[0]?.message ?? issue.message}`
    return [{ ...source.yaml.atKey(path), path: written(path), at: path, message }]
  }
  const found = find(source.value, path)
  const message =
    found === undefined ? `missing; ${issue.message}` : `${issue.message}; found ${display(found, path, source)}`
  return [{ ...source.yaml.at(path), path: written(path), at: path, message }]
}

/** Whether a branch of a union had the right kind of value and found fault with what is in it. */
function isInside(issue: z.core.$ZodIssue): boolean {
  return issue.path.length > 0 || issue.code === 'custom' || issue.code === 'unrecognized_keys'
}

/** What was found, unless it may be a secret: errors end up in logs, tickets and screenshots. */
function display(value: unknown, path: Path, source: Source): string {
  const origin = source.origins.get(originKey(path))
  if (origin !== undefined) return `the value of ${origin}, not shown`
  if (path.includes('credential') && path.at(-1) !== 'type' && typeof value !== 'object')
    return 'a value that is not shown'
  // Whoever knows such a URL can post there.
  if (path[0] === 'notify' && path.at(-1) === 'url') return 'a value that is not shown'
  if (path.some(part => SECRET_KEYS.has(String(part)))) return 'a value that is not shown'
  return shown(value)
}

const SECRET_KEYS = new Set([
  'password',
  'token',
  'private_key',
  'secret',
  'signing_secret',
  'app_token',
  'passphrase',
  'client_secret',
])
const SHOWN_CHARACTERS_MAX = 80

function shown(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  if (typeof value !== 'string') return String(value)
  if (value.includes('PRIVATE KEY')) return 'a private key'
  // The part of a URL that can hold a password, and whatever a mistyped one has there.
  const safe = value.includes('@') && !value.startsWith('@') ? `…${value.slice(value.lastIndexOf('@'))}` : value
  return JSON.stringify(safe.length > SHOWN_CHARACTERS_MAX ? `${safe.slice(0, SHOWN_CHARACTERS_MAX)}…` : safe)
}
