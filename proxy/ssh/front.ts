import type { Socket } from 'node:net'
import ssh2, { type Algorithms, type ClientInfo, type Connection, type ParsedKey } from 'ssh2'
import { newId } from '../../audit/id.ts'
import type { Origin, SigninRefused } from '../../audit/record.ts'
import { type Certificate, parseCertificateLine } from '../../ca/certificate.ts'
import { fingerprint } from '../../ca/key.ts'
import type { Settings } from '../../config/settings.ts'
import { type Accept, type Accepting, listen as listenHere } from '../accept.ts'
import type { Caller, Serve } from '../client.ts'
import { printable } from '../git/pktline.ts'
import type { Throttle } from '../throttle.ts'
import { Door } from './door.ts'
import { type Presented, type Recognised, recognise } from './identity.ts'
import { type LoginOptions, login, type Refused } from './login.ts'
import { requirePatchedSsh2 } from './patched.ts'
import { attend, type OwnCommand } from './session.ts'

export interface SshFrontOptions {
  readonly listen: { readonly host: string; readonly port: number }
  /** Where connections come from; a listening socket of its own unless given. */
  readonly accept?: Accept
  /** Private host keys, PEM or OpenSSH's format, one of each type. */
  readonly hostKeys: readonly (Buffer | string)[]
  /** Host certificates for some of them, as the lines of their `-cert.pub` files. */
  readonly hostCertificates?: readonly string[]
  readonly serve: Serve
  readonly login: LoginOptions
  resolveRepository(path: string): string | undefined
  /** What may be asked for besides git: `ssh git@host whoami`. */
  readonly commands: Readonly<Record<string, OwnCommand>>
  readonly limits: Pick<
    Settings['limits'],
    'connections' | 'connectionsPerSource' | 'loginGrace' | 'loginAttempts' | 'channels'
  >
  /** Milliseconds a logged-in connection may stay open without a command. */
  readonly idle?: number
  /** Where a connection comes from, with any PROXY header taken off. Rejects when that cannot be told. */
  readSource(socket: Socket): Promise<{ readonly address: string; readonly port: number }>
  readonly throttle: Throttle
  onRefused(record: SigninRefused): void
  log(message: string, facts?: Readonly<Record<string, unknown>>): void
}

export interface SshFront {
  readonly address: Accepting['address']
  /**
   * Takes no new connections, lets each that is open come to its next command or end the one that runs, and closes it behind
   * that. Resolves when none is left; waits for as long as that takes.
   */
  retire(): Promise<void>
  /** Takes no new connections and commands, lets what runs finish for so many milliseconds, then ends all of it. */
  close(graceMilliseconds: number): Promise<void>
  connections(): number
  /**
   * Shows these host certificates from the next connection on, as the lines of `-cert.pub` files.
   * @throws when one is of none of our host keys; nothing has changed then
   */
  certify(hostCertificates: readonly string[]): void
}

type State = 'open' | 'retiring' | 'closing'

/** The software name that clients see and log. */
const IDENT = 'Drawbridge'
const IDLE_MILLISECONDS = 10 * 60_000
/** A client that answers nothing for so long is dead: ten questions, half a minute apart. A suspended git may take a while. */
const KEEPALIVE_MILLISECONDS = 30_000
const KEEPALIVES_MAX = 10
/** How long a client that was told to go may take to close its half of the connection. */
const GOODBYE_MILLISECONDS = 2_000
/** Commands on one connection; a multiplexing client has to connect again after that. */
const SESSIONS_MAX = 10_000

// No SHA-1, no CBC, no compression (a zip bomb needs some), and of the plain Diffie-Hellman groups only the cheapest:
// with the large ones a client makes the server compute for tenths of a second before it has shown who it is.
const ALGORITHMS: Algorithms = {
  kex: {
    append: [],
    prepend: [],
    remove: [
      'diffie-hellman-group15-sha512',
      'diffie-hellman-group16-sha512',
      'diffie-hellman-group17-sha512',
      'diffie-hellman-group18-sha512',
    ],
  },
  compress: ['none'],
}

/** Starts to listen. Throws when ssh2 lacks its patch, a key cannot be read, or the address cannot be had. */
export async function startSshFront(options: SshFrontOptions): Promise<SshFront> {
  requirePatchedSsh2()
  const { limits } = options
  const door = new Door(limits)
  const visitors = new Map<Socket, Visitor>()
  let state: State = 'open'

  const speaker = (hostCertificates: readonly string[] | undefined) =>
    new ssh2.Server(
      {
        hostKeys: hostKeys(options.hostKeys, hostCertificates),
        ident: IDENT,
        algorithms: ALGORITHMS,
        maxChannels: limits.channels,
        keepaliveInterval: KEEPALIVE_MILLISECONDS,
        keepaliveCountMax: KEEPALIVES_MAX,
      },
      (connection, info) => visitors.get(info.socket)?.greet(connection, info),
    )
  let ssh = speaker(options.hostCertificates)

  async function receive(socket: Socket): Promise<void> {
    // From the first moment: a PROXY header, a banner, a key exchange and the login may all be slow, together they may not.
    const grace = setTimeout(() => socket.destroy(), limits.loginGrace)
    socket.once('close', () => clearTimeout(grace))
    const { address } = await options.readSource(socket)
    if (socket.destroyed) return
    if (!door.claim(socket, address)) {
      socket.destroy()
      return
    }
    const visitor = new Visitor(socket, address, grace, options, () => state)
    visitors.set(socket, visitor)
    socket.once('close', () => visitors.delete(socket))
    ssh.injectSocket(socket)
  }

  const accepting = await (options.accept ?? listenHere)('ssh', options.listen, {
    pauseOnConnect: true,
    onSocket: socket => {
      socket.on('error', () => {})
      if (state === 'closing' || !door.enter(socket)) {
        socket.destroy()
        return
      }
      socket.setNoDelay(true).setKeepAlive(true)
      receive(socket).catch(error => {
        options.log('ssh connection refused', { reason: error instanceof Error ? error.message : String(error) })
        socket.destroy()
      })
    },
    onFault: error => options.log('ssh listener failed', { reason: error.message }),
  })

  return {
    address: accepting.address,
    connections: () => door.inside,
    certify: lines => {
      ssh = speaker(lines)
    },
    async retire() {
      state = 'retiring'
      const closed = accepting.close()
      for (const visitor of visitors.values()) visitor.retire()
      await closed
    },
    async close(graceMilliseconds) {
      state = 'closing'
      const closed = accepting.close()
      for (const visitor of visitors.values()) visitor.close()
      const late = setTimeout(() => door.destroyAll(), graceMilliseconds)
      await closed
      clearTimeout(late)
    },
  }
}

/** One connection, from its first byte of SSH to its end. */
class Visitor {
  readonly #socket: Socket
  readonly #address: string
  readonly #options: SshFrontOptions
  readonly #front: () => State
  readonly #gone = new AbortController()
  #grace: NodeJS.Timeout
  #idle: NodeJS.Timeout | undefined
  #connection: Connection | undefined
  #origin: Origin
  #refused: Refused | undefined
  #login: { readonly who: Recognised; readonly presented: Presented } | undefined
  #running = 0
  #sessions = 0
  /** The one command that a front which retires still took of this connection. */
  #last = false
  #rekeys = 0
  readonly #since = Date.now()

  constructor(socket: Socket, address: string, grace: NodeJS.Timeout, options: SshFrontOptions, front: () => State) {
    this.#socket = socket
    this.#address = address
    this.#grace = grace
    this.#options = options
    this.#front = front
    this.#origin = { transport: 'ssh', address, connection: newId('c'), agent: '' }
    socket.once('close', () => this.#left())
    // Once we have said goodbye nothing is read any more; a client that stays is put out.
    socket.once('finish', () => {
      const late = setTimeout(() => socket.destroy(), GOODBYE_MILLISECONDS)
      socket.once('close', () => clearTimeout(late))
    })
  }

  greet(connection: Connection, { header }: ClientInfo): void {
    const { login: loginOptions, limits, log, throttle } = this.#options
    this.#connection = connection
    this.#origin = { ...this.#origin, agent: printable(header.identRaw.replace(/^SSH-[\d.]+-/, ''), 200) }
    connection.on('error', error => log('ssh connection failed', { ...this.#facts(), reason: error.message }))
    connection.on('rekey', () => this.#rekeyed())
    login(connection, this.#origin, loginOptions, limits.loginAttempts, {
      onLogin: (who, presented) => this.#enter(connection, who, presented),
      wait: credential => throttle.wait(this.#address, credential),
      onRefused: refused => this.#turnAway(refused),
      onSignIn: milliseconds => {
        clearTimeout(this.#grace)
        this.#grace = setTimeout(() => this.#socket.destroy(), milliseconds)
      },
      onFault: error => this.#fault('ssh login failed', error),
    })
  }

  /** No more commands; at the end of the last one that runs the connection ends. */
  close(): void {
    if (this.#running === 0) this.#end('this gate is being stopped')
  }

  /** One command more, for which it may have come; an idle connection ends soon. */
  retire(): void {
    if (this.#login && this.#running === 0) this.#rest()
  }

  #admits(): boolean {
    const front = this.#front()
    if (front === 'closing' || this.#last || ++this.#sessions > SESSIONS_MAX) return false
    this.#last = front === 'retiring'
    return true
  }

  #enter(connection: Connection, who: Recognised, presented: Presented): void {
    clearTimeout(this.#grace)
    this.#login = { who, presented }
    this.#options.throttle.succeeded(fingerprint(presented.blob))
    this.#rest()
    connection.on('session', (accept, reject) => {
      if (!this.#admits()) {
        reject()
        return
      }
      attend(accept(), {
        serve: this.#options.serve,
        commands: this.#options.commands,
        resolveRepository: this.#options.resolveRepository,
        caller: () => this.#caller(),
        gone: this.#gone.signal,
        onFault: error => this.#fault('ssh command failed', error),
        onStart: () => {
          this.#running++
          clearTimeout(this.#idle)
        },
        onEnd: () => {
          this.#running--
          if (this.#running === 0) this.#rest()
        },
      })
    })
  }

  /**
   * Who this connection is now. A connection may stay open for hours (ControlPersist); its certificate may have expired
   * and its key been withdrawn meanwhile.
   */
  async #caller(): Promise<{ caller: Caller; publicKey: Buffer } | undefined> {
    const { who, presented } = this.#login!
    const now = await recognise(presented, this.#options.login)
    if (now.kind !== 'recognised' || now.principal !== who.principal) return undefined
    const { principal, identity, credentials, proof, stands } = now
    const caller = { principal, identity, credentials, origin: this.#origin, ...(stands && { stands }) }
    return { caller, publicKey: proof.key.blob }
  }

  #rest(): void {
    clearTimeout(this.#idle)
    // A disconnect right behind the answer would make ssh forget the answer's exit status: the client goes by itself.
    const wait = this.#front() === 'open' ? (this.#options.idle ?? IDLE_MILLISECONDS) : GOODBYE_MILLISECONDS
    this.#idle = setTimeout(() => this.#end('nothing was asked for'), wait)
  }

  #end(why: string): void {
    if (this.#connection) this.#connection.end(why)
    else this.#socket.destroy()
  }

  #turnAway(refused: Refused): number {
    // Behind a certificate ssh offers its bare key, which need not be known; the certificate's fault is the one to tell.
    if (this.#refused === undefined || refused.code !== 'unknown-key') this.#refused = refused
    // An agent offers one key after the other, and so most refusals mean nothing; a signature that does not fit is no accident.
    if (refused.code !== 'bad-signature') return 0
    this.#record(refused)
    this.#refused = undefined
    return this.#options.throttle.failed(this.#address)
  }

  #left(): void {
    clearTimeout(this.#idle)
    clearTimeout(this.#grace)
    this.#gone.abort()
    if (this.#login || !this.#refused) return
    this.#options.throttle.failed(this.#address)
    this.#record(this.#refused)
  }

  #record({ code, reason, claimed }: Refused): void {
    this.#options.onRefused({ kind: 'signin.refused', origin: this.#origin, code, reason, claimed })
  }

  /**
   * A key exchange costs us more than it costs the client. Clients make one for each gigabyte or hour; who wants them more
   * often for what is carried may have them, who makes them for nothing is put out.
   */
  #rekeyed(): void {
    const bytes = this.#socket.bytesRead + this.#socket.bytesWritten
    const minutes = (Date.now() - this.#since) / 60_000
    if (++this.#rekeys > REKEYS_FREE + bytes / REKEY_BYTES_MIN + minutes) this.#end('too many key exchanges')
  }

  #fault(message: string, error: unknown): void {
    this.#options.log(message, { ...this.#facts(), err: error })
  }

  #facts(): Readonly<Record<string, unknown>> {
    const { address, connection } = this.#origin
    return { address, connection, ...(this.#login ? { principal: this.#login.who.principal } : {}) }
  }
}

const REKEYS_FREE = 8
/** Stock ssh told to rekey after 256 KiB does so after 34 KB while it sends. */
const REKEY_BYTES_MIN = 16 << 10

/** The private keys with the certificates that are theirs. */
function hostKeys(
  texts: readonly (Buffer | string)[],
  hostCertificates: readonly string[] = [],
): { key: ParsedKey; certificate?: Buffer }[] {
  const certificates = hostCertificates.map(parseCertificateLine)
  const used = new Set<Certificate>()
  const keys = texts.map(text => {
    const parsed = readHostKey(text)
    const certificate = certificates.find(each => each.publicKey.equals(parsed.getPublicSSH()))
    if (!certificate) return { key: parsed }
    used.add(certificate)
    return { key: parsed, certificate: certificate.blob }
  })
  const stray = certificates.find(each => !used.has(each) || each.type !== 'host')
  if (stray)
    throw new Error(
      `host certificate ${JSON.stringify(stray.keyId)} is of no host key that is configured, or no host certificate`,
    )
  return keys
}

/** The public key blob of a private host key. */
export function publicHostKey(text: Buffer | string): Buffer {
  return readHostKey(text).getPublicSSH()
}

function readHostKey(text: Buffer | string): ParsedKey {
  const parsed = ssh2.utils.parseKey(text)
  if (parsed instanceof Error || !parsed.isPrivateKey()) {
    throw new Error(`a host key cannot be read: ${parsed instanceof Error ? parsed.message : 'it is no private key'}`)
  }
  return parsed
}
