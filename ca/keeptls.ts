import { createPrivateKey, generateKeyPair, X509Certificate } from 'node:crypto'
import { rename } from 'node:fs/promises'
import { isIP } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Logger } from 'pino'
import type { AuthorityClient } from './client.ts'
import { openPrivateDirectory, readPrivate, writeDurably } from './durable.ts'

const DAY_MILLISECONDS = 86_400_000
const LIFETIME_MILLISECONDS = 30 * DAY_MILLISECONDS
/** Asked for anew when a third of its time is left. */
const RENEW_MILLISECONDS = LIFETIME_MILLISECONDS / 3
const LOOK_MILLISECONDS = 60_000
/** An authority that starts beside us is met soon. */
const RETRY_MILLISECONDS = 500
const FIRST_MILLISECONDS_MAX = 20_000

const makeKeyPair = promisify(generateKeyPair)

export interface KeepTlsOptions {
  readonly client: Pick<AuthorityClient, 'tls' | 'tlsRoot'>
  /** Where key and certificate are kept together, PEM: a file that is replaced whole never holds a pair that does not fit. */
  readonly file: string
  readonly names: readonly string[]
  /** After each renewal but the first, which is before anything listens. */
  readonly renewed?: () => void
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly now?: () => number
  readonly lookEvery?: number
}

/**
 * Keeps a TLS certificate of the authority for a listener, and renews it by itself. Resolves when there is a good one in the file.
 * @throws when there is none, and the authority gives none
 */
export async function keepTls(options: KeepTlsOptions): Promise<{ stop(): void }> {
  const { client, file, names, log, now = Date.now } = options
  let told: string | undefined
  let listening = false

  async function renew(): Promise<void> {
    const pair = await makeKeyPair('ec', { namedCurve: 'P-256' })
    const publicKey = pair.publicKey.export({ format: 'der', type: 'spki' })
    const expires = now() + LIFETIME_MILLISECONDS
    const answer = await client.tls({ by: 'drawbridge', names, publicKey, expires })
    if (!answer.ok) throw new Error(answer.reason)
    const key = pair.privateKey.export({ format: 'pem', type: 'pkcs8' })
    await openPrivateDirectory(dirname(file))
    // The workers of a proxy share the file: each writes its own, and the last one stays.
    const own = `${file}.${process.pid}`
    await writeDurably(own, `${key}${answer.certificate}`)
    await rename(own, file)
    log.info({ names, file }, 'a new TLS certificate is shown')
  }

  /** @returns whether what is kept is good for now, if not for long */
  async function look(): Promise<boolean> {
    const kept = await readKept(file)
    const left = kept === undefined || !isFor(kept, names) ? 0 : Date.parse(kept.validTo) - now()
    try {
      if (left < RENEW_MILLISECONDS || !isBy(kept, await client.tlsRoot())) {
        await renew()
        if (listening) options.renewed?.()
      }
      told = undefined
      return true
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      if (message !== told) log.warn({ err: cause, file }, 'the authority gave no TLS certificate; asking again')
      told = message
      return left > 0
    }
  }

  const until = performance.now() + FIRST_MILLISECONDS_MAX
  while (!(await look())) {
    if (performance.now() > until) throw new Error(`no TLS certificate for ${names.join(', ')}: ${told}`)
    await sleep(RETRY_MILLISECONDS)
  }
  listening = true
  const timer = setInterval(() => void look(), options.lookEvery ?? LOOK_MILLISECONDS)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}

/** What a file holds that was written here; undefined where it is missing or anything else. */
async function readKept(file: string): Promise<X509Certificate | undefined> {
  const pem = await readPrivate(file)
  if (pem === undefined) return undefined
  try {
    const certificate = new X509Certificate(pem)
    return certificate.checkPrivateKey(createPrivateKey(pem)) ? certificate : undefined
  } catch {
    return undefined
  }
}

/** Another authority may have taken the place of the one that signed it, and that is the root people trust now. */
function isBy(certificate: X509Certificate | undefined, root: string | undefined): boolean {
  return root !== undefined && certificate?.verify(new X509Certificate(root).publicKey) === true
}

function isFor(certificate: X509Certificate, names: readonly string[]): boolean {
  const holds = (name: string) => (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name))
  return names.every(name => holds(name) !== undefined)
}

/** What people reach a listener by: its public address, and the one listened on when that is one. */
export function tlsNames(publicUrl: string | undefined, listen: { readonly host: string }): string[] {
  const dialled = publicUrl === undefined ? undefined : new URL(publicUrl).hostname.replace(/^\[(.*)\]$/, '$1')
  const names = [dialled, listen.host].filter(name => name !== undefined && name !== '0.0.0.0' && name !== '::')
  return [...new Set(names.map(name => (name ?? '').toLowerCase()))]
}
