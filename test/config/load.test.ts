import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadSettings } from '../../config/load.ts'
import { ConfigError } from '../../config/problem.ts'
import { temporaryFolder } from '../support/program.ts'

const folder = temporaryFolder('config')
const EXAMPLE = new URL('../../config/drawbridge.example.yaml', import.meta.url).pathname
const EXAMPLE_ENV = { OIDC_CLIENT_SECRET: 'c1ient', ACME_PASSWORD: 'pa55', FORGE_TOKEN: 't0ken', CA_PASSPHRASE: 'open' }

const SMALLEST = `
redis: redis://127.0.0.1:6379/0
postgres: postgres://drawbridge@localhost/drawbridge
upstreams:
  local: { url: "file:///srv/git/" }
`

function load(text: string, env: NodeJS.ProcessEnv = {}) {
  const file = join(folder, 'drawbridge.yaml')
  writeFileSync(file, text)
  return loadSettings(file, env)
}

/** What loading complains of, each as `line:column path: message`. */
function complaints(text: string, env: NodeJS.ProcessEnv = {}): string[] {
  try {
    load(text, env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ line, column, path, message }) => `${line}:${column} ${path}: ${message}`)
  }
  return []
}

test('the smallest file loads, with every default in place', () => {
  const settings = load(SMALLEST)
  expect(settings.listen).toEqual({
    http: { host: '127.0.0.1', port: 8080 },
    ssh: { host: '127.0.0.1', port: 2222 },
    admin: { host: '127.0.0.1', port: 8081 },
  })
  expect(settings.limits.drain).toBe(60_000)
  expect(settings.ledger).toEqual({
    ...{ whenAway: 'refuse', spoolBytes: 256 << 20, forward: [] },
    heads: { stdout: false },
  })
  expect(settings.state).toBe(join(folder, 'var'))
  expect(settings.upstreams.get('local')).toMatchObject({
    name: 'local',
    credential: { type: 'none' },
    idleTimeout: 300_000,
  })
})

test('the commented example loads, and what it calls the default is the default', () => {
  const example = loadSettings(EXAMPLE, EXAMPLE_ENV)
  const { limits, ledger, reuse, ssh, proxyProtocol, listen } = load(SMALLEST)
  expect({
    limits: example.limits,
    ledger: example.ledger,
    reuse: example.reuse,
    ssh: example.ssh,
    proxyProtocol: example.proxyProtocol,
    listen: example.listen,
  }).toEqual({
    limits,
    ledger,
    reuse,
    ssh,
    proxyProtocol,
    listen,
  })
  expect(example.upstreams.get('acme')?.credential).toEqual({ type: 'basic', username: 'bot', password: 'pa55' })
  expect(example.upstreams.get('ssh1')?.credential).toEqual({
    type: 'ssh-certificate',
    principal: 'git',
    keyId: '{principal}',
    extensions: { 'login@github.com': '{principal.login}' },
  })
})

test('the example mentions every setting there is', () => {
  const schema = JSON.parse(readFileSync(new URL('../../config/drawbridge.schema.json', import.meta.url), 'utf8'))
  const example = readFileSync(EXAMPLE, 'utf8')
  const names = new Set<string>()
  const collect = (node: unknown) => {
    if (typeof node !== 'object' || node === null) return
    if ('properties' in node) for (const name of Object.keys(node.properties as object)) names.add(name)
    for (const inner of Object.values(node)) collect(inner)
  }
  collect(schema)
  expect([...names].filter(name => !new RegExp(`\\b${name}\\b`).test(example))).toEqual([])
})

test('every problem is told at once, each with its place, what was found and what is accepted', () => {
  expect(
    complaints(`
redis: cluster://127.0.0.1
postgress: postgres://localhost/x
listen: { http: 8080, shh: 127.0.0.1:2222 }
upstreams:
  Acme: { url: "https://git.acme.example/" }
  ssh1: { url: "ssh://git@host/", credential: { type: basic, username: x, password: y } }
limits:
  drain: 60
  commands: many
  total: 1 fortnight
`),
  ).toEqual([
    '2:1 postgres: missing; expected embedded, or postgres://USER@HOST:PORT/DATABASE',
    '2:8 redis: Redis Cluster is not supported yet: one decision reads several keys at once; use one Redis or Sentinel; found "cluster://127.0.0.1"',
    '3:1 postgress: unknown key; did you mean postgres?',
    '4:17 listen.http: expected host:port, such as 127.0.0.1:8080 or [::1]:8080, or { address, tls: { certificate, key } or ca }, or off; found 8080',
    '4:23 listen.shh: unknown key; did you mean ssh?',
    '6:3 upstreams.Acme: "Acme" cannot be a name here: expected a name of lower-case letters, digits, dot, dash and underscore',
    "7:9 upstreams.ssh1.host_keys: missing; an ssh:// upstream needs the host's keys; ssh-keyscan host shows them, compare with the host's own word",
    '7:55 upstreams.ssh1.credential.type: expected ssh-key or ssh-certificate for ssh:// upstreams; found "basic"',
    '9:10 limits.drain: expected a duration with its unit, such as 90s, 20m, 20 minutes, 2h, 1h30m or 7 days; found 60',
    '10:13 limits.commands: expected a whole number from 1 to 1000000; found "many"',
    '11:10 limits.total: expected a duration with its unit, such as 90s, 20m, 20 minutes, 2h, 1h30m or 7 days; found "1 fortnight"',
  ])
})

test('the message of the error is one line a problem, with the file in front', () => {
  const file = join(folder, 'bad.yaml')
  writeFileSync(file, `${SMALLEST}listenn: {}\nstat: x\n`)
  expect(() => loadSettings(file, {})).toThrow(
    `${file}:6:1: listenn: unknown key; did you mean listen?\n${file}:7:1: stat: unknown key; did you mean state?`,
  )
})

test('an empty file says what is missing rather than failing to be a mapping', () => {
  expect(complaints('')).toHaveLength(3)
  expect(complaints('- a\n')).toEqual([expect.stringContaining('1:1 : expected a mapping with name,')])
})

test('a file that is not there or cannot be read says so', () => {
  expect(() => loadSettings(join(folder, 'none.yaml'), {})).toThrow(
    'none.yaml:1:1: cannot be read: there is no such file',
  )
  expect(() => loadSettings(folder, {})).toThrow('cannot be read: it is a folder')
})

test('values come from the environment and from files, numbers too', () => {
  writeFileSync(join(folder, 'secret'), 'from a file\n')
  const settings = load(
    `
redis: redis://:\${REDIS_PASSWORD}@127.0.0.1:6379/0
postgres: "\${DATABASE_URL}"
listen: { http: "127.0.0.1:\${PORT}" }
upstreams:
  acme: { url: "https://git.acme.example/\${TEAM}", credential: { type: basic, username: "$\${USER}", password: { file: secret } } }
limits: { commands: "\${COMMANDS}", drain: "\${DRAIN}" }
`,
    { REDIS_PASSWORD: 'p', DATABASE_URL: 'postgres://d@h/d', PORT: '99', TEAM: 't', COMMANDS: '7', DRAIN: '2 minutes' },
  )
  expect(settings.redis).toBe('redis://:p@127.0.0.1:6379/0')
  expect(settings.postgres).toBe('postgres://d@h/d')
  expect(settings.listen.http?.port).toBe(99)
  expect(settings.upstreams.get('acme')?.url.href).toBe('https://git.acme.example/t/')
  expect(settings.upstreams.get('acme')?.credential).toEqual({
    type: 'basic',
    username: '${USER}',
    password: 'from a file',
  })
  expect(settings.limits).toMatchObject({ commands: 7, drain: 120_000 })
})

test('an unset variable and a missing file are each told once, at their place', () => {
  expect(
    complaints(`
redis: "\${NO_SUCH}"
postgres: { file: no/such }
upstreams: { a: { url: "https://\${not a name}/" } }
`),
  ).toEqual([
    '2:8 redis: the environment variable NO_SUCH is not set',
    `3:11 postgres: cannot read ${join(folder, 'no/such')}: there is no such file`,
    '4:24 upstreams.a.url: ${not a name} names no environment variable; a literal one is written $${…}',
  ])
})

test('no secret is in an error: errors end up in logs and tickets', () => {
  const SECRET = 'hunter2'
  writeFileSync(join(folder, 'secret'), SECRET)
  const files = [
    `redis: http://:${SECRET}@h\npostgres: postgres:/u:${SECRET}@h\nupstreams: { a: { url: "https://u:${SECRET}@h/" } }`,
    `redis: "\${S}"\npostgres: "\${S}"\nupstreams: "\${S}"`,
    `redis: { file: secret }\npostgres: { file: secret }\nupstreams: { a: { url: { file: secret } } }`,
    `upstreams: { a: { url: "ssh://h/", credential: ${SECRET} } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: bearer, tokn: ${SECRET} } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: bearer, token: [${SECRET}] } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: basic, username: u, password: *${SECRET} } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: basic, username: u, password: !${SECRET} } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: basic, username: u, password: &${SECRET} } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: basic, username: u, password: "${SECRET}\\q" } } }`,
    `upstreams: { a: { url: "https://h/", credential: { type: basic, username: u, password: "${SECRET}, } } }`,
    `redis: { sentinels: [h:1], name: m, password: { x: ${SECRET} } }`,
  ]
  for (const file of files) {
    const told = complaints(file, { S: SECRET })
    expect(told, file).not.toEqual([])
    expect(told.join('\n'), file).not.toContain(SECRET)
  }
})

test('an upstream takes only what fits its protocol', () => {
  const upstream = (text: string) => complaints(`${SMALLEST}  u: ${text}\n`)
  expect(upstream('{ url: "ftp://h/" }')[0]).toContain('expected a URL such as https://')
  expect(upstream('{ url: "https:///x" }')).toEqual([])
  expect(upstream('{ url: "https://h/?q" }')[0]).toContain('without ? and #')
  expect(upstream('{ url: "file:///srv", credential: { type: bearer, token: x } }')[0]).toContain(
    'expected none for file://',
  )
  expect(upstream('{ url: "file://host/srv" }')[0]).toContain('expected a URL such as')
  expect(
    upstream('{ url: "https://h/", host_keys: ["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"] }')[0],
  ).toContain('only ssh://')
  expect(upstream('{ url: "ssh://h/", host_keys: [nonsense], credential: { type: ssh-certificate } }')[0]).toContain(
    'expected a host key',
  )
  expect(upstream('{ url: "https://h/", credential: { type: kerberos } }')[0]).toContain(
    'type is none, basic, bearer, ssh-key, ssh-certificate',
  )
})

test('listeners take IPv6, TLS files relative to the settings, and off', () => {
  const { listen } = load(
    `${SMALLEST}listen: { http: { address: "[::1]:443", tls: { certificate: c.pem, key: /k.pem } }, ssh: off }`,
  )
  expect(listen).toEqual({
    http: { host: '::1', port: 443, tls: { certificate: join(folder, 'c.pem'), key: '/k.pem' } },
    admin: { host: '127.0.0.1', port: 8081 },
  })
  expect(complaints(`${SMALLEST}listen: { admin: off }`)).toHaveLength(1)
  expect(complaints(`${SMALLEST}listen: { http: { address: "[::1]:443", tls: { cert: c.pem } } }`)).toEqual([
    expect.stringContaining('listen.http.tls.certificate: missing'),
    expect.stringContaining('listen.http.tls.key: missing'),
    expect.stringContaining('listen.http.tls.cert: unknown key'),
  ])
  for (const bad of ['1.2.3.4', '1.2.3.4:70000', '[1.2.3.4]:1', '::1:80', ':80', 'a b:1']) {
    expect(complaints(`${SMALLEST}listen: { http: "${bad}" }`), bad).toHaveLength(1)
  }
})

test('Redis is one server, a socket or sentinels', () => {
  const redis = (text: string) => load(SMALLEST.replace('redis://127.0.0.1:6379/0', text)).redis
  expect(redis('embedded')).toBe('embedded')
  expect(redis('rediss://user:pw@host:6380')).toBe('rediss://user:pw@host:6380')
  expect(redis('unix:///run/redis.sock')).toBe('unix:///run/redis.sock')
  expect(redis('{ sentinels: ["a:1", "b:2"], name: m, password: "p@/", db: 3 }')).toBe(
    'sentinel://default:p%40%2F@a:1,b:2/m/3',
  )
  for (const bad of ['http://h', 'redis://', 'redis://h/x', '{ sentinels: [], name: m }', '{ name: m }'])
    expect(() => redis(bad), bad).toThrow()
})

test('certificate authorities may be a file of several keys', () => {
  writeFileSync(join(folder, 'cas.pub'), '# ours\nssh-ed25519 AAAA one\n\nssh-ed25519 BBBB two\n')
  const settings = load(
    `${SMALLEST}ssh: { trusted_user_ca_keys: [{ file: cas.pub }, ssh-ed25519 CCCC], host_keys: [keys/host] }`,
  )
  expect(settings.ssh).toEqual({
    hostKeys: [join(folder, 'keys/host')],
    trustedUserCAKeys: ['ssh-ed25519 AAAA one', 'ssh-ed25519 BBBB two', 'ssh-ed25519 CCCC'],
  })
})

test("the settings in the operator's page and in deploy/ load", () => {
  const page = readFileSync(new URL('../../docs/operator.md', import.meta.url), 'utf8')
  const examples = [...page.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, yaml]) => yaml!)
  expect(examples.length).toBeGreaterThan(1)
  writeFileSync(join(folder, 'acme'), 'secret')
  for (const example of examples) load(example.replace('/run/secrets/acme', 'acme'))
  for (const name of ['compose.drawbridge.yaml', 'compose.ca.yaml']) {
    const text = readFileSync(new URL(`../../deploy/${name}`, import.meta.url), 'utf8')
    load(text.replace('/run/secrets/ca', 'acme'), { GATE_NAME: 'proxy1', POSTGRES_PASSWORD: 'secret' })
  }
})

test('a folder too deep for a socket is told by the setting it comes from', () => {
  const deep = `/srv/${'d'.repeat(100)}`
  expect(complaints(`${SMALLEST}state: ${deep}\n`)).toEqual([
    `6:8 state: too deep a folder: its socket ${deep}/admin/api.sock has 120 bytes, and a unix socket's path at most 107`,
  ])
  const elsewhere = complaints(`${SMALLEST}ca: { socket: ${deep}/ca, directory: ${deep} }\n`)
  expect(elsewhere.join('\n')).toMatch(/ca\.socket: too deep.*\n.*ca\.directory: too deep/)
  expect(complaints(`${SMALLEST}state: /srv/${'d'.repeat(87)}\n`)).toEqual([])
})

test('an upstream by certificate wants an authority, and no placeholder that stands for nothing', () => {
  const upstream = (credential: string) => `
redis: redis://127.0.0.1:6379/0
postgres: postgres://drawbridge@localhost/drawbridge
upstreams:
  host: { url: "ssh://git@host/", host_keys: ["SHA256:${'A'.repeat(43)}"], credential: ${credential} }
`
  const plain = upstream('{ type: ssh-certificate }')
  expect(complaints(plain)).toEqual([
    expect.stringMatching(
      /^5:\d+ upstreams\.host\.credential\.type: expected ssh-key, or a section ca as well: .* found "ssh-certificate"$/,
    ),
  ])
  const { upstreams, ca } = load(`${plain}ca: {}\n`)
  expect(upstreams.get('host')?.credential).toEqual({
    type: 'ssh-certificate',
    principal: 'git',
    keyId: '{principal}',
    extensions: {},
  })
  expect(ca.configured).toBe(true)
  for (const wrong of ['principal: "{login}"', 'key_id: "{principal.name}"', 'extensions: { "login@github.com": "{" }'])
    expect(complaints(`${upstream(`{ type: ssh-certificate, ${wrong} }`)}ca: {}\n`)).toEqual([
      expect.stringContaining('{principal} and {principal.login} stand for whom it is for'),
    ])
  expect(complaints(`${upstream('{ type: ssh-certificate, extensions: { permit-pty: "" } }')}ca: {}\n`)).not.toEqual([])
})

test('how a gate reaches its control plane: paths are relative to the file, and no token goes to another machine in the clear', () => {
  const control = (text: string) => `${SMALLEST}control: ${text}\n`
  const settings = load(control('{ url: "https://gate:8081/", token_file: front, ca_file: ca.pem }'))
  expect(settings.control).toEqual({
    url: 'https://gate:8081',
    tokenFile: join(folder, 'front'),
    caFile: join(folder, 'ca.pem'),
  })
  expect(load(control('{ url: "http://127.0.0.1:8081", token_file: /run/front }')).control?.tokenFile).toBe(
    '/run/front',
  )
  const elsewhere = complaints(control('{ url: "http://gate.example.org:8081", token_file: front }'))
  expect(elsewhere.join()).toContain(
    'control.url: expected https://HOST:PORT, or http://127.0.0.1:PORT on the same machine',
  )
  expect(complaints(control('{ url: "https://gate:8081" }')).join()).toContain('control.token_file')
})

test('where traces go is read, and in the clear they go no further than this machine', () => {
  const tracing = (text: string) => `${SMALLEST}telemetry: { traces: ${text} }\n`
  expect(load(SMALLEST).traces).toBeUndefined()
  expect(load(tracing('{ url: "http://127.0.0.1:4318/v1/traces" }')).traces).toMatchObject({
    ...{ ratio: 1, headers: [], acceptParent: false },
  })
  const { traces } = load(tracing('{ url: "https://otel.example/v1/traces", ratio: 0.25, headers: { x-key: abc } }'))
  expect(traces).toMatchObject({ ratio: 0.25, headers: [{ name: 'x-key', secret: 'abc' }] })
  expect(complaints(tracing('{ url: "http://otel.example/v1/traces" }'))[0]).toContain('https://')
  const elsewhere = (more: string) => complaints(tracing(`{ url: "https://otel.example/v1/traces", ${more} }`))[0]
  expect(elsewhere('ratio: 1.5')).toContain('expected a number from 0 to 1')
  expect(elsewhere('headers: { "x key": abc }')).toContain('the name of a header')
  expect(elsewhere('headers: { x-key: "a\\r\\nb: c" }')).toContain('printable ASCII')
})

test('where heads are published is read', () => {
  const publishing = (text: string) => `${SMALLEST}ledger: { heads: ${text} }\n`
  expect(load(SMALLEST).ledger.heads).toEqual({ stdout: false })
  const { heads } = load(
    publishing(
      '{ stdout: true, redis: heads, webhook: { url: "https://h.example/", headers: { authorization: Bearer abc } } }',
    ),
  ).ledger
  expect(heads).toMatchObject({ stdout: true, redis: 'heads', webhook: { headers: [{ secret: 'Bearer abc' }] } })
  expect(complaints(publishing('{ webhook: { url: "http://h.example/" } }'))[0]).toContain('https://')
})

test('where the ledger is sent on to is read, and in the clear it goes no further than this machine', () => {
  const forwarding = (text: string) => `${SMALLEST}ledger: { forward: { one: ${text} } }\n`
  expect(load(forwarding('{ type: syslog, address: "logs.acme.example:6514" }')).ledger.forward).toMatchObject([
    { name: 'one', type: 'syslog', host: 'logs.acme.example', port: 6514 },
  ])
  const keys = 'bucket: audit, access_key: a, secret_key: s'
  expect(load(forwarding(`{ type: s3, endpoint: "http://127.0.0.1:9000", ${keys} }`)).ledger.forward).toMatchObject([
    { type: 's3', prefix: 'drawbridge/', accessKey: 'a', secretKey: 's' },
  ])
  expect(complaints(forwarding(`{ type: s3, endpoint: "http://s3.acme.example", ${keys} }`))[0]).toContain('https://')
  const secret = `whsec_${'a'.repeat(32)}`
  expect(complaints(forwarding(`{ type: webhook, url: "https://u@acme.example/", secret: ${secret} }`))).toHaveLength(1)
  const short = complaints(forwarding('{ type: webhook, url: "https://acme.example/", secret: "whsec_c2hvcnQ=" }'))
  expect(short[0]).toContain('24 bytes')
  const broken = forwarding(`{ type: webhook, url: "https://acme.example/", secret: "${secret}a" }`)
  expect(complaints(broken)[0]).toContain('base64')
  expect(short[0]).not.toContain('c2hvcnQ')
  expect(complaints(forwarding('{ type: kafka }'))[0]).toContain('syslog, webhook, redis, s3')
})
