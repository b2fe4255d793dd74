import { hash } from 'node:crypto'
import type { Logger } from 'pino'
import type { Emit } from '../audit/record.ts'
import type { Landed, TipBoard } from '../grant/tips.ts'
import { isZero } from './git/objectid.ts'
import type { Watch } from './git/pktline.ts'
import type { Session } from './session.ts'

/** Of a listing so much is looked at, some 15,000 refs; it is held until the client has all of it. */
const LISTING_BYTES_MAX = 1 << 20
/** `<id> SP <ref>` and what follows; a longer name is passed over. */
const LINE_BYTES_MAX = 512
/** Listings looked at, at a time; others go by unseen. */
const LISTINGS_MAX = 64
/** Repositories of which it is remembered what they listed. */
const REMEMBERED_MAX = 1_000
/** A host may answer from a copy that is behind by seconds. */
export const SETTLED_MILLISECONDS = 30_000
/** Other names than these are often the host's own. */
const FOLLOWED = /^refs\/(heads|tags)\//

/** For the relay of a listing. */
export interface Listing {
  readonly head: number
  readonly watch: Watch
}

/**
 * Notices, by what the host lists, that somebody moved a ref past the gate. It only watches: nobody waits for it, nothing is refused
 * by it, and what it cannot know (Redis is away, a push whose end nobody saw) it does not tell.
 */
export interface Bypasses {
  /** A push is about to be let go. Never rejects. */
  pushing(session: Session): Promise<void>
  /** An operation is over. */
  ended(session: Session): void
  /** To be called before the host is asked for its refs. */
  listing(session: Session): Listing | undefined
}

export function watchBypasses(options: {
  readonly board: TipBoard
  readonly emit: Emit
  readonly log: Pick<Logger, 'warn' | 'error'>
  /** Milliseconds for which a ref must have stood before it is missed. */
  readonly settled?: number
}): Bypasses {
  const { board, emit, log, settled = SETTLED_MILLISECONDS } = options
  /** Pushes of which Redis was told that they begin, and has to be told how they end. */
  const begun = new WeakSet<Session>()
  const listings = new Map<Session, { readonly lines: string[]; readonly asked: number }>()
  /** What a repository listed, and until when the same is not worth another look. */
  const looked = new Map<string, { readonly digest: string; readonly until: number }>()

  const failed = (err: unknown) => log.warn({ err }, 'who moves refs past the gate cannot be watched for')

  /** Most listings of a busy repository are the same as the one before. */
  async function look(session: Session, lines: readonly string[], asked: number): Promise<void> {
    const { repository } = session.start
    const digest = hash('sha256', lines.join(''), 'base64')
    const before = looked.get(repository)
    if (before?.digest === digest && performance.now() < before.until) return
    const refs = lines.flatMap(readLine)
    // Of protocol 2 the advertisement itself names none.
    if (refs.length === 0) return
    looked.delete(repository)
    if (looked.size >= REMEMBERED_MAX) looked.delete(looked.keys().next().value as string)
    looked.set(repository, { digest, until: performance.now() + settled })
    try {
      await compare(session, refs, asked)
    } catch (error) {
      looked.delete(repository)
      failed(error)
    }
  }

  async function compare(session: Session, refs: readonly Listed[], asked: number): Promise<void> {
    const { repository } = session.start
    const tips = await board.standing(repository)
    // Longer than it took is what counts: a push that ended since may not be in the listing.
    const since = performance.now() - asked + settled
    for (const { ref, id } of refs) {
      const tip = tips.get(ref)
      if (tip && tip.id !== id && tip.age > since) await tell(session, ref, tip.id, id)
    }
  }

  async function tell(session: Session, ref: string, left: string, found: string): Promise<void> {
    const { operation, principal, repository } = session.start
    // Read after the listing, and asked again here: a push that had begun to move it would have been remembered.
    if (!(await board.moved(repository, ref, left, found))) return
    const reason = `the host lists ${ref} at ${found}, where no push through the gate had put it; a merge at the host looks the same`
    try {
      const about = { repository, ref, left, found, operation, principal }
      await emit({ kind: 'bypass.suspected', by: 'drawbridge', ...about, reason })
    } catch (error) {
      log.error(
        { err: error, repository, ref, left, found },
        'a ref that was moved past the gate could not be recorded',
      )
      // So that a later listing tells it.
      await board.moved(repository, ref, found, left)
    }
  }

  return {
    pushing: async session => {
      const refs = (session.start.updates ?? []).flatMap(({ ref }) => (FOLLOWED.test(ref) ? [ref] : []))
      if (refs.length === 0) return
      begun.add(session)
      await board.pushing(session.start.repository, session.operation, refs).catch(failed)
    },
    ended: session => {
      const { repository } = session.start
      if (begun.delete(session)) board.pushed(repository, session.operation, landed(session)).catch(failed)
      const listing = listings.get(session)
      listings.delete(session)
      if (listing && session.outcome?.result === 'ok') void look(session, listing.lines, listing.asked)
    },
    listing: session => {
      if (listings.size >= LISTINGS_MAX) return undefined
      const lines: string[] = []
      let bytes = 0
      listings.set(session, { lines, asked: performance.now() })
      const watch: Watch = (length, head) => {
        // Of the first line of protocol 0 the end is capabilities.
        const whole = length - 4 <= LINE_BYTES_MAX || head.includes(0)
        bytes += length
        if (whole && bytes <= LISTING_BYTES_MAX) lines.push(head.toString())
      }
      return { head: LINE_BYTES_MAX, watch }
    },
  }
}

/** What a push made of its refs, by the host's own report. Of what is not known here nothing is said. */
function landed({ start, outcome, settled }: Session): Landed[] {
  const { updates = [] } = start
  // The host never had all of it.
  if (!settled) return updates.map(({ ref }) => ({ ref, was: 'kept' }))
  return (outcome?.updates ?? []).flatMap(({ ref, new: id, result }): Landed[] => {
    if (result === 'unknown') return []
    if (result === 'rejected') return [{ ref, was: 'kept' }]
    return [isZero(id) ? { ref, was: 'gone' } : { ref, id }]
  })
}

interface Listed {
  readonly id: string
  readonly ref: string
}

/** What a line of an advertisement or of an answer to ls-refs lists; a ref that stands for another moves with that one. */
function readLine(line: string): Listed[] {
  const [, id, ref, rest = ''] = /^([0-9a-f]{40,64}) ([^ \0\n]+)(.*)/i.exec(line) ?? []
  if (id === undefined || ref === undefined || rest.startsWith(' symref-target:')) return []
  return [{ id: id.toLowerCase(), ref }]
}
