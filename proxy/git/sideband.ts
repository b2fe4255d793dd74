import { PACKET_MAX, PacketCounter, ProtocolError, packetHead, printable } from './pktline.ts'

// gitprotocol-pack, "side-band": the first payload byte of each packet says where the rest belongs.

/** 1: the data; 2: progress, printed after `remote: `; 3: a fatal error, printed likewise, after which git gives up. */
export type Band = 1 | 2 | 3
/** undefined: the client asked for no side-band. */
export type Sideband = 'side-band-64k' | 'side-band' | undefined

/** Bytes in one packet, digits and band included. */
const PACKET_SIZE = { 'side-band-64k': PACKET_MAX, 'side-band': 1000 } as const
const REMOTE_LINE_MAX = 500

/** Which side-band was asked for; the larger one wins, as in git. */
export function sidebandOf(capabilities: { has(name: string): boolean }): Sideband {
  if (capabilities.has('side-band-64k')) return 'side-band-64k'
  return capabilities.has('side-band') ? 'side-band' : undefined
}

/** `bytes` on `band`, in as many packets as it takes. */
export function band(band: Band, bytes: Uint8Array, sideband: NonNullable<Sideband> = 'side-band-64k'): Buffer {
  const most = PACKET_SIZE[sideband] - 5
  const parts: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += most) {
    const part = bytes.subarray(at, at + most)
    parts.push(Buffer.from(packetHead(part.length + 1), 'latin1'), Buffer.of(band), part)
  }
  return Buffer.concat(parts)
}

/** Text for a person, one `remote: ` line for each of its lines, cleaned of whatever could move their cursor. */
export function remoteText(text: string, on: 2 | 3 = 2, sideband: NonNullable<Sideband> = 'side-band-64k'): Buffer {
  const lines = text.split(/\r?\n/).map(each => `${printable(each, REMOTE_LINE_MAX)}\n`)
  return band(on, Buffer.from(lines.join('')), sideband)
}

/** What a demultiplexer hands on; `flush` is called at the outer flush packet. */
export interface BandHandler {
  /** `bytes` are the reader's own: copy what is to be kept. */
  readonly onband: (band: Band, bytes: Buffer) => void
  readonly onflush?: () => void
}

/** Takes side-band packets apart, fed with chunks of any size. Holds at most one packet. */
export class SidebandReader {
  readonly #counter: PacketCounter

  constructor({ onband, onflush }: BandHandler) {
    this.#counter = new PacketCounter({
      head: PACKET_MAX,
      watch: (length, payload) => {
        if (length === 0) return onflush?.()
        const number = payload[0]
        if (number !== 1 && number !== 2 && number !== 3) {
          throw new ProtocolError('ERR_SIDEBAND', 'a packet of no known band')
        }
        onband(number, payload.subarray(1))
      },
    })
  }

  /** Takes the next chunk. Throws ProtocolError for wrong lengths and unknown bands. */
  write(chunk: Buffer): void {
    this.#counter.count(chunk)
  }
}
