import { Readable } from 'node:stream'
import type { FetchDetail } from '../audit/record.ts'
import type { LiveGrant } from '../grant/grant.ts'
import { coversRef, refPrefix } from '../grant/pattern.ts'
import { takeListed, type View } from './git/hiderefs.ts'
import type { ObjectFormat } from './git/objectid.ts'
import { DELIM, FLUSH, line, ProtocolError } from './git/pktline.ts'
import type { Fetch } from './git/uploadpack.ts'
import type { Session } from './session.ts'
import type { Upstream } from './upstream/upstream.ts'
import type { Wanted } from './wanted.ts'

// What of a repository a window lets its holder read: all of it, or what the refs it names stand at.

/** What a window for some refs may show at a time. One for more can be for the whole repository as well. */
const TIPS_MAX = 200_000
const LISTING_MILLISECONDS = 10_000
/** git's `--unshallow` (INFINITE_DEPTH in its shallow.h). */
const INFINITE_DEPTH = 0x7fffffff

/** The refs by what they stand at. */
export type Tips = Map<string, Set<string>>

/** A read, and which grants allow it. */
export interface Reading extends Wanted {
  /**
   * What its session is shown of the repository; undefined: all of it, and from then on it goes on only under a grant for
   * all of it. So it is where a refusal was let through, and with `all`.
   */
  viewFor(session: Session, all?: boolean): View | undefined
  /** Holds it to a grant for one of the refs that are at each thing wanted. */
  hold(wants: readonly ReadonlySet<string>[]): void
}

/** Reading under any grant for all of the repository, otherwise under those for some of its refs. */
export function reading(wanted: Omit<Wanted, 'actions' | 'covers' | 'explain'>, asked?: Fetch): Reading {
  // What HEAD is, only the host can tell.
  const named = asked ? namedBy(asked).filter(ref => ref !== 'HEAD') : []
  let held: 'all' | readonly ReadonlySet<string>[] = []
  const reads = (live: readonly LiveGrant[], refs: Iterable<string>) =>
    [...refs].some(ref => live.some(grant => coversRef(grant, ref)))
  return {
    ...wanted,
    actions: ['fetch'],
    covers: live => {
      const whole = live.filter(readsAll)
      if (whole.length > 0) return whole
      if (live.length === 0 || held === 'all') return undefined
      return [...named.map(ref => [ref]), ...held].every(refs => reads(live, refs)) ? live : undefined
    },
    explain: live => {
      const ref = named.find(each => !reads(live, [each]))
      return ref && `${ref} is not among the refs your window lets you read`
    },
    viewFor: (session, all = false) => {
      if (all || session.instead || session.grants.some(readsAll)) held = 'all'
      return held === 'all' ? undefined : { covers: ref => session.grants.some(grant => coversRef(grant, ref)) }
    },
    hold: wants => {
      held = wants
    },
    ...(asked && { fetch: detail(asked) }),
  }
}

/** Refs that a fetch names. What they stand at would tell of them, had they not to be covered. */
function namedBy({ wantRefs, deepenNot }: Fetch): readonly string[] {
  return [...wantRefs, ...deepenNot]
}

/** Whether a grant speaks of all of a repository, and not of refs. */
export function readsAll({ refs }: LiveGrant): boolean {
  return refs.length === 0
}

/** The same view, noting down what is shown. */
export function noting(view: View, tips: Tips): View {
  let count = 0
  return {
    covers: view.covers,
    shown: (ref, id) => {
      if (++count > TIPS_MAX) throw new ProtocolError('ERR_REFS_MAX', `more than ${TIPS_MAX} refs in a window`)
      tips.set(id, (tips.get(id) ?? new Set()).add(ref))
    },
  }
}

/** Of what was shown before, what may be read now: the grant it was shown under may be over. */
export function stillShown(tips: Tips, { covers }: View): Tips {
  const still: Tips = new Map()
  for (const [id, refs] of tips) {
    const names = [...refs].filter(covers)
    // HEAD is nothing by itself.
    if (names.length > 0) still.set(id, new Set(refs.has('HEAD') ? ['HEAD', ...names] : names))
  }
  return still
}

/**
 * What the refs that a session may read stand at now. `upstream` is to be a new one, and is closed.
 *
 * @throws UpstreamError; ProtocolError when the host does not tell its refs, as one that speaks no protocol 2
 */
export async function readableTips(
  upstream: Upstream,
  session: Session,
  view: View,
  format: ObjectFormat,
): Promise<Tips> {
  const prefixes = new Set(session.grants.flatMap(({ refs }) => refs.map(refPrefix)))
  const request = [
    line('command=ls-refs'),
    line(`object-format=${format}`),
    DELIM,
    ...['symrefs', 'peel', 'ref-prefix HEAD'].map(line),
    ...[...prefixes].map(prefix => line(`ref-prefix ${prefix}`)),
    FLUSH,
  ]
  const signal = AbortSignal.any([session.signal, AbortSignal.timeout(LISTING_MILLISECONDS)])
  const tips: Tips = new Map()
  try {
    const answer = await upstream.exchange(Readable.from([Buffer.concat(request)], { objectMode: false }), signal)
    await takeListed(answer, format, noting(view, tips))
    return tips
  } finally {
    upstream.close()
  }
}

/**
 * Why a fetch goes beyond what a window for some refs lets its holder read; undefined when it does not. Each want has to
 * stand at such a ref at this moment: the host itself gives out any object whose id it is told.
 */
export function whyBeyond(asked: Fetch, tips: Tips): string | undefined {
  const names = new Set([...tips.values()].flatMap(refs => [...refs]))
  const unnamed = namedBy(asked).find(ref => !names.has(ref))
  if (unnamed !== undefined) return `${unnamed} is not among the refs your window lets you read`
  const id = asked.wants.find(want => !tips.has(want))
  if (id !== undefined)
    return `${id} is at none of the refs your window lets you read; if one has moved just now, fetch again`
  // Left out by what it names: `sparse:oid` is any object of the repository.
  if (asked.filter !== undefined)
    return 'filters are not passed on under a window for some refs: clone without --filter'
  // The host would go on from whatever the client says it has, also where no ref leads that may be read.
  if ((asked.deepen ?? 0) >= INFINITE_DEPTH && asked.shallows.length > 0)
    return `--unshallow is not passed on under a window for some refs: use --depth=${INFINITE_DEPTH - 1}`
  return undefined
}

/** What a fetch that was let through is held to: for each thing it wants, the refs that are there. */
export function heldTo({ wants, wantRefs }: Fetch, tips: Tips): ReadonlySet<string>[] {
  const ids = new Set(wants)
  const wanted = ([id, refs]: [string, ReadonlySet<string>]) => ids.has(id) || wantRefs.some(ref => refs.has(ref))
  return [...tips].filter(wanted).map(([, refs]) => refs)
}

function detail({ wants, wantRefs, haves, depth, filter, kind }: Fetch): FetchDetail {
  return {
    wants: wants.length + wantRefs.length,
    haves,
    kind,
    ...(depth !== undefined && { depth }),
    ...(filter !== undefined && { filter }),
  }
}
