import { Readable, Transform } from 'node:stream'
import type { ClientChannel } from 'ssh2'
import type { UpstreamSettings } from '../../config/settings.ts'
import { PacketReader, printable } from '../git/pktline.ts'
import { Slots } from './slots.ts'
import { type Connection, type Login, openConnection, where } from './ssh/connection.ts'
import { readHostKeys } from './ssh/hostkey.ts'
import { ConnectionPool } from './ssh/pool.ts'
import { untilFlush } from './untilflush.ts'
import { type Connect, type Lending, type Target, type Upstream, UpstreamError } from './upstream.ts'

export interface SshUpstreamExtras {
  /** A key and certificate for one operation of one principal, for hosts that trust the gate's authority. */
  certificate?(target: Target): Promise<Login>
}

/** What a host says on standard error, for the operator: the last of it. */
const STDERR_CHARACTERS_MAX = 4096
/** How long a host may take to end a command that has nothing more to do. */
const GOODBYE_MILLISECONDS = 2_000
/** Most a host may say before its advertisement's first line is complete. */
const FIRST_LINE_BYTES_MAX = 64 << 10

/**
 * A host behind `ssh:`. With a key of its own all clients share it, and connections are kept warm; with certificates
 * each operation logs in as whom it is for, and its connection ends with it.
 *
 * @throws FormatError when the pinned host keys cannot be read; Error when the credential is not one for SSH
 */
export function sshUpstream(settings: UpstreamSettings, extras: SshUpstreamExtras = {}): Connect {
  const { credential, url } = settings
  const hostKeys = readHostKeys(settings.hostKeys, { host: url.hostname.replace(/^\[|\]$/g, ''), now: Date.now })
  const slots = new Slots(settings.connections, settings.idleTimeout)
  const poolFor = (login: () => Promise<Login>) =>
    new ConnectionPool(async signal => openConnection(settings, hostKeys, await login(), signal))
  if (credential.type === 'ssh-key') {
    const { username, privateKey } = credential
    const pool = poolFor(async () => ({ username, privateKey }))
    return target => new SshUpstream(settings, target, { slots, pool, keep: true })
  }
  const { certificate } = extras
  if (credential.type !== 'ssh-certificate' || !certificate) {
    throw new Error(
      `upstream ${settings.name}: ${url.protocol}// needs a credential of type ssh-key or ssh-certificate`,
    )
  }
  // One pool an operation: a connection logged in for one principal is never another's.
  return target => new SshUpstream(settings, target, { slots, pool: poolFor(() => certificate(target)), keep: false })
}

interface Means {
  readonly slots: Slots
  readonly pool: ConnectionPool
  /** Whether a connection may be used again. */
  readonly keep: boolean
}

/**
 * One client's commands on a host: a stateless client has one for each exchange, a conversation has one from the
 * advertisement to its last exchange.
 */
class SshUpstream implements Upstream {
  readonly conversational = true
  readonly #settings: UpstreamSettings
  readonly #target: Target
  readonly #means: Means
  readonly #running = new Set<Command>()
  #conversation: Command | undefined
  #closed = false

  constructor(settings: UpstreamSettings, target: Target, means: Means) {
    this.#settings = settings
    this.#target = target
    this.#means = means
  }

  async advertise(signal: AbortSignal): Promise<Readable> {
    // git-upload-archive(1) waits for its client to speak.
    if (this.#target.service === 'upload-archive') return Readable.from([])
    return this.#greeting(await this.#converse(signal))
  }

  async exchange(body: Readable, signal: AbortSignal): Promise<Readable> {
    const { service, protocol } = this.#target
    const met = this.#conversation !== undefined
    const command = await this.#converse(signal)
    // The host speaks first, to whoever asks: a client that had the advertisement by another request is not shown it again.
    if (!met && service !== 'upload-archive') await drop(await this.#greeting(command))
    if (protocol === 2 && service === 'upload-pack') {
      command.feed(body, { andMore: true })
      return command.toFlush()
    }
    command.feed(body)
    return command.toItsEnd()
  }

  close(): void {
    this.#closed = true
    for (const command of this.#running) command.close()
  }

  async #greeting(command: Command): Promise<Readable> {
    const { service, protocol } = this.#target
    const first = await command.firstLine()
    if (first?.startsWith('ERR ')) {
      command.close()
      const detail = `${where(this.#settings)} refused: ${printable(first.slice(4), STDERR_CHARACTERS_MAX)}`
      throw new UpstreamError('failed', 'the Git host refused', detail)
    }
    if (protocol === 2 && service === 'upload-pack' && first !== undefined && first !== 'version 2') {
      command.close()
      const detail = `${where(this.#settings)} answers without protocol version 2; an sshd needs "AcceptEnv GIT_PROTOCOL"`
      throw new UpstreamError('protocol', 'the Git host does not speak protocol version 2', detail)
    }
    return command.toFlush()
  }

  async #converse(signal: AbortSignal): Promise<Command> {
    this.#conversation ??= await this.#start(signal)
    return this.#conversation
  }

  async #start(signal: AbortSignal): Promise<Command> {
    const { slots, pool, keep } = this.#means
    const leave = await slots.take(this.#target.service === 'receive-pack', signal)
    const { connection, channel } = await this.#open(signal).catch(error => {
      leave()
      throw error
    })
    const command = new Command(channel, this.#settings, signal, clean => {
      this.#running.delete(command)
      pool.give(connection, clean && keep)
      leave()
    })
    this.#running.add(command)
    if (this.#closed || signal.aborted) {
      command.close()
      signal.throwIfAborted()
      throw new UpstreamError('failed', 'the operation has ended', 'started after close')
    }
    return command
  }

  async #open(signal: AbortSignal): Promise<{ connection: Connection; channel: ClientChannel & Lending }> {
    const { pool } = this.#means
    for (;;) {
      signal.throwIfAborted()
      const { connection, warm } = await pool.take(signal)
      try {
        return { connection, channel: await this.#run(connection, signal) }
      } catch (error) {
        pool.give(connection, false)
        // A warm connection may have died unnoticed: nothing was said yet, so the next one may be tried.
        if (!warm || signal.aborted) throw error
      }
    }
  }

  async #run(connection: Connection, signal: AbortSignal): Promise<ClientChannel & Lending> {
    const { service, protocol, path } = this.#target
    const { connectTimeout } = this.#settings
    const env: Record<string, string> = protocol > 0 ? { GIT_PROTOCOL: `version=${protocol}` } : {}
    const late = setTimeout(() => connection.destroy(), connectTimeout)
    const onAbort = () => connection.destroy()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await connection.exec(`git-${service} ${quote(`${basePath(this.#settings.url)}${path}.git`)}`, env)
    } finally {
      clearTimeout(late)
      signal.removeEventListener('abort', onAbort)
    }
  }
}

/** One command on the host, its errors and its end. */
class Command {
  readonly #channel: ClientChannel & Lending
  readonly #settings: UpstreamSettings
  readonly #ended: Promise<void>
  readonly #release: (clean: boolean) => void
  #silence: NodeJS.Timeout | undefined
  /** Whether it is the host's turn to speak; while it is being fed it may be silent. */
  #due = true
  #spoke = false
  /** An answer is complete and no other is asked for. */
  #quiet = false
  #stderr = ''
  #fault: UpstreamError | undefined
  #released = false

  /** `release` is called once, with whether the connection may carry another command. */
  constructor(
    channel: ClientChannel & Lending,
    settings: UpstreamSettings,
    signal: AbortSignal,
    release: (clean: boolean) => void,
  ) {
    this.#channel = channel
    this.#settings = settings
    this.#release = release
    channel.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS_MAX)
    })
    channel.on('error', () => {})
    const onAbort = () => this.close()
    signal.addEventListener('abort', onAbort, { once: true })
    let status: number | string | undefined
    channel.on('exit', (code: number | null, name?: string) => {
      status = code ?? name ?? 'a signal'
    })
    this.#ended = new Promise(resolve => {
      channel.once('close', () => {
        clearTimeout(this.#silence)
        signal.removeEventListener('abort', onAbort)
        // A connection that is lost ends its channels like any other end: only a status says that the command got there.
        if (status !== 0) this.#fault ??= this.#failed(status)
        this.#free(status !== undefined)
        resolve()
      })
    })
  }

  /**
   * The first line it says, left in its place; undefined when it begins with a flush.
   *
   * @throws UpstreamError when it says nothing, or what is no packet
   */
  async firstLine(): Promise<string | undefined> {
    const reader = new PacketReader(this.#channel, { limit: FIRST_LINE_BYTES_MAX })
    this.#await()
    try {
      const first = await reader.read()
      if (!first) throw new Error('it ended without a word')
      this.#spoke = true
      reader.rest().unshift(reader.raw())
      return first.kind === 'data' ? first.payload.toString('latin1').trimEnd() : undefined
    } catch (cause) {
      this.#channel.resume()
      const ended = this.#channel.readableEnded
      if (!ended) this.#broken()
      throw (ended && (await this.#failure())) || this.#fault || notGit(this.#settings, cause)
    } finally {
      clearTimeout(this.#silence)
    }
  }

  /** Sends `body`; then, unless there is more to come, the end of input. A body that breaks off ends the command. */
  feed(body: Readable, { andMore = false } = {}): void {
    const channel = this.#channel
    this.#quiet = false
    let stalled: NodeJS.Timeout | undefined
    const moving = () => clearTimeout(stalled)
    this.#due = false
    body.on('pause', () => {
      moving()
      stalled = setTimeout(() => this.#timeOut('took no byte of a request'), this.#settings.idleTimeout)
    })
    body.on('resume', moving)
    body.on('end', () => {
      moving()
      this.#due = true
      if (!channel.isPaused()) this.#await()
    })
    body.on('error', () => this.#broken())
    body.on('close', () => {
      moving()
      if (!body.readableEnded) this.#broken()
    })
    body.pipe(channel, { end: !andMore })
    if (body.destroyed && !body.readableEnded) this.#broken()
  }

  /** What it says up to the flush that ends an answer; it goes on to the next one. */
  toFlush(): Readable {
    const answer = untilFlush(this.#channel, () => this.#failure())
    answer.once('end', () => {
      this.#quiet = true
    })
    return this.#watched(answer)
  }

  /** Everything else it says. Ends cleanly only if the command did. */
  toItsEnd(): Readable {
    const answer = new Transform({
      transform: (chunk, _encoding, done) => done(null, chunk),
      flush: done => void this.#failure().then(fault => done(fault ?? null)),
    })
    this.#channel.pipe(answer)
    return this.#watched(answer)
  }

  /** Ends it. One that waits for us to go on is told that there is no more, and its connection can be used again. */
  close(): void {
    if (!this.#quiet || this.#released) {
      this.#broken()
      return
    }
    const late = setTimeout(() => this.#broken(), GOODBYE_MILLISECONDS)
    late.unref()
    void this.#ended.then(() => clearTimeout(late))
    this.#channel.resume()
    this.#channel.end()
  }

  #broken(): void {
    this.#free(false)
  }

  #free(clean: boolean): void {
    clearTimeout(this.#silence)
    if (this.#released) return
    this.#released = true
    this.#release(clean)
  }

  readonly #await = (): void => {
    clearTimeout(this.#silence)
    if (!this.#due || this.#released) return
    this.#silence = setTimeout(() => this.#timeOut('said nothing while an answer was due'), this.#settings.idleTimeout)
  }

  #timeOut(how: string): void {
    const detail = `${where(this.#settings)} ${how} for ${this.#settings.idleTimeout / 1000} seconds`
    this.#fault ??= new UpstreamError('timeout', 'the Git host did not answer in time', detail)
    this.#broken()
  }

  #failed(status: number | string | undefined): UpstreamError {
    const how = status === undefined ? 'was cut off' : `ended with ${status}`
    const detail = `the command on ${where(this.#settings)} ${how}: ${printable(this.#stderr, STDERR_CHARACTERS_MAX)}`
    if (!this.#spoke && NO_REPOSITORY.test(this.#stderr)) {
      return new UpstreamError('not-found', 'there is no such repository', detail)
    }
    return new UpstreamError('failed', 'the Git host broke off', detail)
  }

  /** Once it has ended: what went wrong, if anything did. */
  async #failure(): Promise<UpstreamError | undefined> {
    await this.#ended
    return this.#fault
  }

  /** Ends the command when whoever reads its answer lets go of it, or when the host falls silent in the middle of it. */
  #watched(answer: Readable): Readable {
    const channel = this.#channel
    const disarm = () => clearTimeout(this.#silence)
    channel.on('resume', this.#await).on('data', this.#await).on('pause', disarm)
    answer.once('close', () => {
      disarm()
      channel.off('resume', this.#await).off('data', this.#await).off('pause', disarm)
    })
    answer.on('close', () => {
      if (!answer.readableEnded) this.#broken()
    })
    return answer
  }
}

function notGit(settings: UpstreamSettings, cause: unknown): UpstreamError {
  const said = cause instanceof Error ? cause.message : String(cause)
  return new UpstreamError('protocol', 'the Git host did not answer as one', `${where(settings)}: ${said}`, cause)
}

// git's own words, and those of the large hosts.
const NO_REPOSITORY = /does not appear to be a git repository|not found|does not exist|could not be found/i

/** The path in front of a repository's, as git makes it from a URL: `ssh://host/~alice/` is a path from a home folder. */
function basePath({ pathname }: URL): string {
  const path = decodeURIComponent(pathname)
  return path.startsWith('/~') ? path.slice(1) : path
}

/** git's sq_quote: hosts that know no shell undo exactly this. */
function quote(text: string): string {
  return `'${text.replace(/['!]/g, "'\\$&'")}'`
}

async function drop(stream: Readable): Promise<void> {
  for await (const _chunk of stream);
}
