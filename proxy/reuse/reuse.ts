import { createHmac, randomBytes } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { UpstreamSettings } from '../../config/settings.ts'
import type { LiveGrant } from '../../grant/grant.ts'
import { targetOf } from '../advertise.ts'
import type { Client } from '../client.ts'
import type { HostOf } from '../hosts.ts'
import type { Session } from '../session.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { type Asked, asked, type FetchCommand } from './asked.ts'
import { Flight } from './flight.ts'
import { Listings, listRefs } from './listing.ts'
import { type Disk, SPOOL_PREFIX, SpoolError } from './spool.ts'

export interface ReuseOptions {
  /** Where answers lie; made if it is not there. */
  readonly folder: string
  /** Most bytes of disk. */
  readonly bytes: number
  /** Milliseconds a whole answer is kept. */
  readonly ttl: number
  readonly hostOf: HostOf
  /** The settings of the host of a repository, as they are now. */
  upstreamOf(repository: string): UpstreamSettings | undefined
}

/** Where an answer came from that the host was not asked for: one that was under way, or one that was kept. */
export type Reused = 'shared' | 'cached'

export interface Given {
  readonly answer: Readable
  /** undefined: the host was asked, and others may share the answer. */
  readonly reused: Reused | undefined
}

/** What happened so far; for metrics. */
export interface ReuseCounts {
  /** Answers the host was asked for, to be shared. */
  asked: number
  /** Fetches that were answered by one of those while it came, and from the disk afterwards. */
  shared: number
  cached: number
  /** Fetches the host was asked for as if there were no reuse, by the reason. */
  readonly passed: { [reason in Passed]: number }
  /** Bytes that were read without asking the host. */
  bytes: number
  /** Answers that left the disk to make room for others. */
  evicted: number
}

/**
 * `request`: not one whose answer can be shared. `grant`: it covers some refs only. `listing`: the host did not tell its
 * refs. `wants`: something is wanted that is at no branch or tag. `disk`: there was none. `answer`: it cannot be shared.
 */
type Passed = 'request' | 'grant' | 'listing' | 'wants' | 'disk' | 'answer'

export interface FetchAsked {
  readonly client: Client
  /** Open: the gate has let this very fetch through, and its start is on record. */
  readonly session: Session
  readonly command: FetchCommand
  /** Lets go of the client's own connection to the host, where it has one. */
  release(): void
}

/** Most answers at once; each holds a file open. */
const ANSWERS_MAX = 256

/**
 * Pack reuse: who asks for the same at the same time shares one answer of the host, and for a while afterwards it is
 * served from disk.
 *
 * What is served to anybody is what the host would give them now. For each fetch the host is asked for its refs again, as
 * whoever the gate is to it for this client, and everything wanted must stand at a branch or tag. What those reach does
 * not change; the tags, on which `include-tag` depends as well, are a part of the key.
 */
export class Reuse {
  readonly counts: ReuseCounts = {
    asked: 0,
    shared: 0,
    cached: 0,
    passed: { request: 0, grant: 0, listing: 0, wants: 0, disk: 0, answer: 0 },
    bytes: 0,
    evicted: 0,
  }
  readonly #options: ReuseOptions
  readonly #listings = new Listings()
  /** By key, the one that was used last at the end. */
  readonly #flights = new Map<string, Flight>()
  readonly #expiries = new Map<Flight, NodeJS.Timeout>()
  readonly #disk: Disk
  #free: number
  /** Keys hold what is in settings, secrets too. */
  readonly #secret = randomBytes(32)

  /** Makes the folder, and takes away what an earlier run may have left in it. */
  static async open(options: ReuseOptions): Promise<Reuse> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 })
    for (const name of await readdir(options.folder)) {
      if (name.startsWith(SPOOL_PREFIX)) await rm(join(options.folder, name), { force: true })
    }
    return new Reuse(options)
  }

  private constructor(options: ReuseOptions) {
    this.#options = options
    this.#free = options.bytes
    this.#disk = {
      take: bytes => this.#take(bytes),
      give: bytes => {
        this.#free += bytes
      },
    }
  }

  /** Bytes of disk that are taken now. */
  get bytes(): number {
    return this.#options.bytes - this.#free
  }

  /** Answers that are on disk or on their way there. */
  get answers(): number {
    return this.#flights.size
  }

  /**
   * The answer to a fetch, once it begins. undefined: ask the host, as if there were no reuse.
   *
   * @throws as the host's own `exchange` would; the session's reason when it was cut
   */
  async exchange({ client, session, command, release }: FetchAsked): Promise<Given | undefined> {
    const request = asked(command)
    if (!request) return this.#pass('request')
    if (!session.grants.some(coversEveryRef)) return this.#pass('grant')
    const host = this.#options.upstreamOf(client.repository)
    if (!host) return this.#pass('request')
    const view = this.#digest(client.repository, seenAs(host, client))
    const connect = this.#options.hostOf(client.repository)
    const upstream = () => connect({ ...targetOf(client, session.operation), stateless: true })

    release()
    const { format } = request
    const listed = this.#listings.fresh(this.#digest(view, format), () => listRefs(upstream(), format))
    const listing = await unlessAborted(listed, session.signal).catch(() => undefined)
    session.signal.throwIfAborted()
    if (!listing) return this.#pass('listing')
    if (!request.wants.every(id => listing.tips.has(id))) return this.#pass('wants')

    const key = this.#digest(view, request.spelling, request.withTags ? listing.tags : '')
    const flight = this.#flights.get(key)
    if (!flight || flight.state === 'over') return this.#ask(key, { request, raw: command.raw, upstream, session })
    this.#flights.delete(key)
    this.#flights.set(key, flight)
    const reused = flight.state === 'kept' ? 'cached' : 'shared'
    try {
      const answer = await flight.follow(session.signal)
      this.counts[reused]++
      answer.once('close', () => {
        this.counts.bytes += answer.position
      })
      return { answer, reused }
    } catch {
      // Nothing of it has been read, so they may ask for themselves.
      session.signal.throwIfAborted()
      return this.#pass('answer')
    }
  }

  /** Gives up whatever is under way or kept. */
  close(): void {
    for (const [key, flight] of this.#flights) {
      flight.abandon()
      this.#forget(key, flight)
    }
  }

  /** Asks the host, in such a way that others can share the answer. */
  async #ask(
    key: string,
    { request, raw, upstream, session }: { request: Asked; raw: Buffer; upstream: () => Upstream; session: Session },
  ): Promise<Given | undefined> {
    if (this.#flights.size >= ANSWERS_MAX && !this.#evict()) return this.#pass('disk')
    try {
      const flight = new Flight({
        folder: this.#options.folder,
        disk: this.#disk,
        upstream,
        request: Readable.from([raw], { objectMode: false }),
        shallow: request.shallow,
        onLanded: landed => this.#onLanded(key, landed),
      })
      this.#flights.get(key)?.discard()
      this.#flights.set(key, flight)
      this.counts.asked++
      return { answer: await flight.lead(session.signal), reused: undefined }
    } catch (error) {
      session.signal.throwIfAborted()
      if (error instanceof SpoolError) return this.#pass('disk')
      throw error
    }
  }

  #onLanded(key: string, flight: Flight): void {
    if (flight.state !== 'kept' || this.#options.ttl === 0) {
      this.#forget(key, flight)
      return
    }
    const timer = setTimeout(() => this.#forget(key, flight), this.#options.ttl)
    timer.unref()
    this.#expiries.set(flight, timer)
  }

  #forget(key: string, flight: Flight): void {
    clearTimeout(this.#expiries.get(flight))
    this.#expiries.delete(flight)
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
    flight.discard()
  }

  #take(bytes: number): boolean {
    while (this.#free < bytes) if (!this.#evict()) return false
    this.#free -= bytes
    return true
  }

  /** Lets go of the answer that was not used for longest and that nobody reads; false when there is none. */
  #evict(): boolean {
    for (const [key, flight] of this.#flights) {
      if (flight.state === 'flying' || flight.read) continue
      this.#forget(key, flight)
      this.counts.evicted++
      return true
    }
    return false
  }

  #pass(reason: Passed): undefined {
    this.counts.passed[reason]++
    return undefined
  }

  #digest(...parts: readonly string[]): string {
    return createHmac('sha256', this.#secret).update(JSON.stringify(parts)).digest('base64url')
  }
}

/** Where a grant names refs, an answer is the host's to that one client, its wants looked at; what others were given is not handed on. */
function coversEveryRef({ actions, refs }: LiveGrant): boolean {
  return actions.includes('fetch') && refs.length === 0
}

/** Names the account the host sees, and everything else about the way to it: what one may see another may not. */
function seenAs(host: UpstreamSettings, { caller }: Client): string {
  const { type } = host.credential
  const byOneAccount = type === 'none' || type === 'basic' || type === 'bearer' || type === 'ssh-key'
  return JSON.stringify([host, byOneAccount ? null : caller.principal])
}

function unlessAborted<T>(awaited: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    awaited.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
