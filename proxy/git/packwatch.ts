import { PACK_HEADER_BYTES, type PackHeader, parsePackHeader } from './pack.ts'
import type { PacketCounterOptions } from './pktline.ts'

// Where the pack begins in an answer to a fetch.
//   v2  [acknowledgments … 0001] [shallow-info … 0001] [wanted-refs … 0001] packfile LF, then side-band packets
//   v0  [shallow <id>…, 0000] NAK|ACK …, then side-band packets, or the bare pack when none was asked for

/** Looks at the packets of an answer as they go by; give it to a relay whole. Never throws. */
export interface PackWatch extends PacketCounterOptions {
  /** true once the first packet of the pack, or of the progress in front of it, went by. */
  readonly started: boolean
  /** The number of objects the pack announces; undefined until its header went by. */
  readonly objects: number | undefined
}

const PACKFILE = 'packfile'
/** Band, header; enough for `packfile` with a band in front of it (sideband-all) as well. */
const HEAD_BYTES = PACK_HEADER_BYTES + 4

/** A watch for one answer. A line that says `PACK` or `packfile-uris` starts nothing: only the place in the answer counts. */
export function watchPack(protocol: 0 | 1 | 2): PackWatch {
  let started = false
  let header: PackHeader | undefined
  let first = Buffer.alloc(0)

  const collect = (bytes: Buffer) => {
    if (first.length >= PACK_HEADER_BYTES) return
    first = Buffer.concat([first, bytes.subarray(0, PACK_HEADER_BYTES - first.length)])
    header = parsePackHeader(first)
  }

  return {
    head: HEAD_BYTES,
    packMayFollow: protocol !== 2,
    watch(length, head) {
      if (length === -1) {
        started = true
        collect(Buffer.concat([Buffer.from('PACK'), head]))
      } else if (started) {
        // A packet can be as short as one byte of the pack.
        if (head[0] === 1) collect(head.subarray(1))
      } else if (protocol === 2) {
        started = isPackfileLine(length, head)
      } else if (length > 4 && head[0]! <= 3) {
        started = true
        if (head[0] === 1) collect(head.subarray(1))
      }
    },
    get started() {
      return started
    },
    get objects() {
      return header?.objects
    },
  }
}

function isPackfileLine(length: number, head: Buffer): boolean {
  if (length < 4 || length > 4 + PACKFILE.length + 2) return false
  // With sideband-all every line has a band in front of it.
  const at = head[0] === 1 ? 1 : 0
  return head.toString('latin1', at).replace(/\n$/, '') === PACKFILE
}
