import { randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import type { Tls } from '../../config/settings.ts'

/** TLS from a certificate and key in files. */
export interface Encryption {
  /** The server's side of TLS on an accepted connection. */
  wrap(raw: Socket): TLSSocket
  /** Reads the files again if they changed. What is not a certificate and its key is not taken: the old pair goes on. */
  reload(): Promise<void>
  /**
   * Goes on with other files.
   * @throws when they cannot be read or do not fit together; nothing has changed then
   */
  take(files: Tls): Promise<void>
  close(): void
}

export interface EncryptionOptions {
  readonly files: Tls
  /** Milliseconds between two looks at the files: certificates are renewed without anybody telling us. */
  readonly lookEvery?: number
  onReloaded(): void
  onRefused(error: Error): void
}

const LOOK_EVERY_MILLISECONDS = 10_000
const TICKET_KEY_BYTES = 48

/** @throws when the files cannot be read or do not fit together */
export async function encryption(options: EncryptionOptions): Promise<Encryption> {
  let { files } = options
  let seen = await look(files)
  let context = await load(files)
  let said: string | undefined

  const reload = async () => {
    const looked = files
    try {
      const now = await look(looked)
      if (now === seen) return
      const fresh = await load(looked)
      // Others were taken meanwhile.
      if (looked !== files) return
      seen = now
      context = fresh
      said = undefined
      options.onReloaded()
    } catch (cause) {
      if (looked !== files) return
      const why = cause instanceof Error ? cause.message : String(cause)
      const text = `${files.certificate} and ${files.key} are not taken, the certificate read before stays in use: ${why}`
      // Once, not at every look.
      if (text !== said) options.onRefused(new Error(text, { cause }))
      said = text
    }
  }
  const timer = setInterval(() => void reload(), options.lookEvery ?? LOOK_EVERY_MILLISECONDS)
  timer.unref()

  return {
    // Built by hand rather than by a tls.Server, so that the connection behind it, whose source may have been told by a
    // load balancer, stays known. A wrong or missing server name makes no difference: there is one certificate.
    wrap: raw => new TLSSocket(raw, { isServer: true, secureContext: context, ALPNProtocols: ['http/1.1'] }),
    reload,
    take: async next => {
      const [mark, fresh] = [await look(next), await load(next)]
      files = next
      seen = mark
      context = fresh
      said = undefined
    },
    close: () => clearInterval(timer),
  }
}

/** A mark that changes when either file does: renewed in place, or by moving a symbolic link. */
async function look(files: Tls): Promise<string> {
  const facts = await Promise.all([stat(files.certificate), stat(files.key)])
  return facts.map(({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`).join(' ')
}

async function load(files: Tls): Promise<SecureContext> {
  const [cert, key] = await Promise.all([readFile(files.certificate), readFile(files.key)])
  // Throws when the key is not the certificate's.
  return createSecureContext({
    cert,
    key,
    minVersion: 'TLSv1.2',
    sessionIdContext: 'drawbridge',
    ticketKeys: randomBytes(TICKET_KEY_BYTES),
  })
}
