import type { PacketCounterOptions } from '../git/pktline.ts'

// What an answer to a fetch may consist of, to be anybody's but the one's who asked (gitprotocol-v2, "fetch"):
//   [shallow-info LF  shallow <id>…  0001]  packfile LF  <band><bytes>…  0000

/**
 * Looks at the packets of an answer as they go by; give it to a `PacketCounter`, and tell it of what is no packet with a
 * pkt-len of -1. Never throws.
 */
export interface AnswerWatch extends PacketCounterOptions {
  /**
   * `shared`: everything in it follows from the request. `own`: it has a section that is not known here, or that may
   * depend on more (`wanted-refs`, `packfile-uris`, `acknowledgments`, an `ERR`). undefined: not seen yet.
   */
  readonly verdict: 'shared' | 'own' | undefined
  /** true once its flush packet went by with nothing behind it and no error on band 3: it may be kept. */
  readonly whole: boolean
}

/** Enough for `unshallow` and a sha256 id. */
const HEAD_BYTES = 80

/** A watch for one answer. `shallow`: a depth was asked for, so that a `shallow-info` section follows from the request. */
export function watchAnswer({ shallow }: { readonly shallow: boolean }): AnswerWatch {
  let at: 'start' | 'shallow-info' | 'behind shallow-info' | 'pack' | 'end' | 'unknown' = 'start'

  const next = (length: number, head: Buffer): typeof at => {
    if (length < 0) return 'unknown'
    const text = head.toString('latin1').replace(/\n$/, '')
    switch (at) {
      case 'start':
        if (text === 'shallow-info' && shallow) return 'shallow-info'
        return text === 'packfile' ? 'pack' : 'unknown'
      case 'shallow-info':
        if (length === 1) return 'behind shallow-info'
        return /^(?:un)?shallow [0-9a-f]+$/.test(text) ? at : 'unknown'
      case 'behind shallow-info':
        return text === 'packfile' ? 'pack' : 'unknown'
      case 'pack':
        if (length === 0) return 'end'
        // Band 3 ends an answer that went wrong at the host.
        return head[0] === 1 || head[0] === 2 ? at : 'unknown'
      default:
        return 'unknown'
    }
  }

  let verdict: AnswerWatch['verdict']
  return {
    head: HEAD_BYTES,
    watch(length, head) {
      at = next(length, head)
      if (at === 'pack') verdict ??= 'shared'
      else if (at === 'unknown') verdict ??= 'own'
    },
    get verdict() {
      return verdict
    },
    get whole() {
      return at === 'end'
    },
  }
}
