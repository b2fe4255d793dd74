import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { type ObjectFormat, objectId } from '../git/objectid.ts'
import { DELIM, FLUSH, line, PacketReader, ProtocolError } from '../git/pktline.ts'
import type { Upstream } from '../upstream/upstream.ts'

/** What a host advertises at one moment, as far as it is needed to tell whether an answer still holds. */
export interface Listing {
  /** What `HEAD`, the branches and the tags stand at. */
  readonly tips: ReadonlySet<string>
  /** Names every tag and what it stands at and points to. */
  readonly tags: string
}

/** A hundred thousand refs. A repository with more is fetched from without reuse. */
const LISTING_BYTES_MAX = 8 << 20
const LISTING_MILLISECONDS = 10_000

const REQUEST = ['peel', 'ref-prefix HEAD', 'ref-prefix refs/heads/', 'ref-prefix refs/tags/']

/**
 * Asks a host for its refs (gitprotocol-v2, "ls-refs"). The upstream is to be a new one: `git upload-pack` reads loose
 * refs once and would tell a conversation what was so at its beginning.
 *
 * @throws UpstreamError; ProtocolError when the answer is none, or too long
 */
export async function listRefs(upstream: Upstream, format: ObjectFormat): Promise<Listing> {
  const signal = AbortSignal.timeout(LISTING_MILLISECONDS)
  const request = [line('command=ls-refs'), line(`object-format=${format}`), DELIM, ...REQUEST.map(line), FLUSH]
  const tips = new Set<string>()
  const tags = createHash('sha256')
  try {
    const answer = await upstream.exchange(Readable.from([Buffer.concat(request)], { objectMode: false }), signal)
    const reader = new PacketReader(answer, { limit: LISTING_BYTES_MAX })
    for (;;) {
      const packet = await reader.read()
      if (packet?.kind === 'flush') return { tips, tags: tags.digest('hex') }
      if (packet?.kind !== 'data') throw noListing()
      const text = packet.payload.toString('latin1').replace(/\n$/, '')
      const [first = '', ref] = text.split(' ')
      const id = objectId(first, format)
      // `unborn HEAD` is told only to who asks for it.
      if (id === undefined || ref === undefined) throw noListing()
      tips.add(id)
      if (ref.startsWith('refs/tags/')) tags.update(`${text}\n`)
    }
  } finally {
    upstream.close()
  }
}

function noListing(): ProtocolError {
  return new ProtocolError('ERR_LS_REFS', 'the Git host answered ls-refs with something else')
}

/**
 * Listings for many who ask at once. Each gets one that was begun after they asked; those who ask while one is under way
 * wait together for the next.
 */
export class Listings {
  readonly #running = new Map<string, { now: Promise<Listing>; next?: Promise<Listing> }>()

  /** A listing of `what`, begun no earlier than this call. */
  fresh(what: string, ask: () => Promise<Listing>): Promise<Listing> {
    const running = this.#running.get(what)
    if (!running) return this.#begin(what, ask)
    const begin = () => this.#begin(what, ask)
    running.next ??= running.now.then(begin, begin)
    return running.next
  }

  #begin(what: string, ask: () => Promise<Listing>): Promise<Listing> {
    const running = { now: ask() }
    this.#running.set(what, running)
    const over = () => {
      if (this.#running.get(what) === running) this.#running.delete(what)
    }
    running.now.then(over, over)
    return running.now
  }
}
