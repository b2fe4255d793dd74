import { isIP } from 'node:net'
import { z } from 'zod'
import { DURATION_FORM, readDuration, readSize, SIZE_FORM } from '../units.ts'

// The kinds of values drawbridge.yaml is made of. Each says in its message what is accepted there.

export const MINUTE = 60_000

export const HOUR = 60 * MINUTE

/** A text, as it stands; `accepts` completes the sentence "expected …". */
export function text(accepts: string) {
  return z
    .string({ error: `expected ${accepts}` })
    .min(1, { error: `expected ${accepts}` })
    .max(TEXT_CHARACTERS_MAX)
}

const TEXT_CHARACTERS_MAX = 65_536

export function matching(pattern: RegExp, accepts: string) {
  return text(accepts).regex(pattern, { error: `expected ${accepts}` })
}

/** A value that comes out of `${NAME}` is text, so digits in text count as a number. */
export function whole(least: number, most: number) {
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

export function duration(least: number, most: number) {
  return measure(readDuration, DURATION_FORM, least, most)
}

export function size(least: number, most: number) {
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

export function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const keys = Object.keys(shape).join(', ')
  // About keys it does not know, an issue says only which ones those are; load.ts wants to suggest from the ones there are.
  return z.strictObject(shape, {
    error: issue => (issue.code === 'unrecognized_keys' ? keys : `expected a mapping with ${keys}`),
  })
}

export function list<Item extends z.ZodType>(item: Item, accepts: string) {
  return z
    .array(item, { error: `expected ${accepts}` })
    .max(LIST_ITEMS_MAX, { error: `expected at most ${LIST_ITEMS_MAX}` })
}

const LIST_ITEMS_MAX = 1_000

export const ADDRESS_FORM = 'host:port, such as 127.0.0.1:8080 or [::1]:8080'

export const address = z.string({ error: `expected ${ADDRESS_FORM}` }).transform((written, context) => {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([^\s[\]:/@]+)):(\d{1,5})$/i.exec(written)
  const host = parts?.[1] ?? parts?.[2]
  const port = Number(parts?.[3])
  if (host !== undefined && port <= 65_535 && !(parts?.[1] && isIP(host) !== 6)) return { host, port }
  context.issues.push({ code: 'custom', message: `expected ${ADDRESS_FORM}`, input: written })
  return z.NEVER
})

export const secret = (accepts: string) =>
  text(accepts).describe('Write { file: PATH } or ${NAME} rather than the secret itself.')

export const publicUrl = (...protocols: string[]) => {
  const accepts = `a URL that begins with ${protocols.join(' or ')}`
  return text(accepts)
    .refine(written => protocols.some(p => written.startsWith(p)) && URL.canParse(written), {
      error: `expected ${accepts}`,
    })
    .transform(written => written.replace(/\/+$/, ''))
}

const CIDR_FORM = 'an address or network, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32'

export const cidr = text(CIDR_FORM).refine(
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

/** Standard Webhooks: 24 bytes or more, in base64 that can be read. */
export const WEBHOOK_SECRET = /^whsec_(?:[A-Za-z0-9+/]{4}){8,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** On this machine itself, where nothing is read on the way. */
export const isHere = ({ hostname }: URL) => /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)

export const texts = (accepts: string) => list(text(accepts), `a list of texts, each ${accepts}`)

// The record tells who works on what: in the clear it goes no further than this machine.
const ENCRYPTED_FORM = 'an https:// URL (http:// on this machine only), without ? and #'

export const encryptedUrl = text(ENCRYPTED_FORM)
  .refine(
    written => {
      const url = URL.canParse(written) ? new URL(written) : undefined
      if (url?.username !== '' || url.search !== '' || url.hash !== '') return false
      return url.protocol === 'https:' || (url.protocol === 'http:' && isHere(url))
    },
    { error: `expected ${ENCRYPTED_FORM}` },
  )
  .transform(written => new URL(written))

/** RFC 9110's token, and what HTTP itself needs is not to be set. */
const HEADER = /^(?!(?:host|content-length|content-type|transfer-encoding|connection)$)[!#$%&'*+.^_`|~0-9a-z-]{1,100}$/i

/** Headers that we send along, by name. */
export const headers = z
  .record(
    matching(HEADER, 'the name of a header'),
    secret('a value').regex(/^[\x20-\x7e]+$/, { error: 'expected printable ASCII' }),
    { error: 'expected a mapping of headers to their values' },
  )
  .default({})
  .transform(named => Object.entries(named).map(([name, secret]) => ({ name, secret })))
