import { z } from 'zod'
import { list, matching, section, text, whole } from './value.ts'

const HOST_PORT = /^(?:\[[0-9a-f:.]+\]|[^\s[\]:/@,]+):\d{1,5}$/i

export const REDIS_FORM = 'embedded, redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH, or { sentinels, name }'

export const redisUrl = text(REDIS_FORM).transform((written, context) => {
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

export const sentinels = section({
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

export const postgres = text(POSTGRES_FORM).refine(
  written =>
    written === 'embedded' ||
    (/^postgres(ql)?:\/\//.test(written) && URL.canParse(written) && new URL(written).pathname.length > 1),
  { error: `expected ${POSTGRES_FORM}` },
)
