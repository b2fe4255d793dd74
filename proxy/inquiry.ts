import { Readable } from 'node:stream'
import { readAdvertisement } from './git/advertisement.ts'
import { capabilityValue } from './git/capabilities.ts'
import { type ObjectFormat, objectId } from './git/objectid.ts'
import { PACK_HEADER_BYTES, parsePackHeader } from './git/pack.ts'
import { DELIM, FLUSH, line, PacketReader, ProtocolError } from './git/pktline.ts'
import type { Connect, Target, Upstream } from './upstream/upstream.ts'

const LS_REFS_BYTES_MAX = 4 << 20
const SECTION_BYTES_MAX = 1 << 20

export interface Fetching {
  readonly wants: readonly string[]
  readonly haves?: readonly string[]
  readonly filter: 'tree:0' | 'blob:none'
  /** So many commits deep. */
  readonly depth?: number
}

/**
 * What the gate itself asks of the host while it holds a push back: is a ref symbolic, and what lies between a commit and
 * the refs it would move. Always upload-pack, protocol 2; a host that does not speak it leaves the question open, and an
 * open question is a no.
 */
export class Inquiry {
  readonly #upstream: Upstream
  readonly #format: ObjectFormat
  readonly #features: readonly string[]
  readonly #signal: AbortSignal

  private constructor(upstream: Upstream, format: ObjectFormat, features: readonly string[], signal: AbortSignal) {
    this.#upstream = upstream
    this.#format = format
    this.#features = features
    this.#signal = signal
  }

  /** @throws UpstreamError; ProtocolError when the host does not speak protocol 2 */
  static async open(connect: Connect, target: Omit<Target, 'service' | 'protocol' | 'stateless'>, signal: AbortSignal) {
    const upstream = connect({ ...target, service: 'upload-pack', protocol: 2, stateless: false })
    try {
      const { protocol, capabilities, objectFormat } = await readAdvertisement(await upstream.advertise(signal))
      if (protocol !== 2) throw new ProtocolError('ERR_HOST_PROTOCOL', 'the Git host does not speak protocol version 2')
      const features = capabilityValue(capabilities, 'fetch')?.split(' ') ?? []
      return new Inquiry(upstream, objectFormat, features, signal)
    } catch (error) {
      upstream.close()
      throw error
    }
  }

  close(): void {
    this.#upstream.close()
  }

  /** Which of these refs are symbolic, and what they point to (gitprotocol-v2, "ls-refs"). */
  async symbolic(refs: readonly string[]): Promise<Map<string, string>> {
    const request = [
      line('command=ls-refs'),
      line(`object-format=${this.#format}`),
      DELIM,
      line('symrefs'),
      ...refs.map(ref => line(`ref-prefix ${ref}`)),
      FLUSH,
    ]
    const reader = new PacketReader(await this.#ask(request), { limit: LS_REFS_BYTES_MAX })
    const found = new Map<string, string>()
    for (let text = await textOf(reader); text !== undefined; text = await textOf(reader)) {
      const [, ref, ...attributes] = text.split(' ')
      const target = attributes.find(each => each.startsWith('symref-target:'))
      if (ref && target) found.set(ref, target.slice('symref-target:'.length))
    }
    return found
  }

  /** The commits that the host's branches and tags stand at. */
  async tips(): Promise<Set<string>> {
    const request = [
      line('command=ls-refs'),
      line(`object-format=${this.#format}`),
      DELIM,
      line('peel'),
      line('ref-prefix refs/heads/'),
      line('ref-prefix refs/tags/'),
      FLUSH,
    ]
    const reader = new PacketReader(await this.#ask(request), { limit: LS_REFS_BYTES_MAX })
    const found = new Set<string>()
    for (let text = await textOf(reader); text !== undefined; text = await textOf(reader)) {
      const [id, , ...attributes] = text.split(' ')
      const peeled = attributes.find(each => each.startsWith('peeled:'))?.slice('peeled:'.length)
      for (const one of [id, peeled]) if (one !== undefined && this.id(one)) found.add(one)
    }
    return found
  }

  /** The pack of what `wants` reach and `have` does not: the commits alone where the host can filter. */
  between(wants: readonly string[], have: string): Promise<PacketReader> {
    return this.fetch({ wants, haves: [have], filter: 'tree:0' })
  }

  /** Whether all of `wants` can be reached from `haves`. */
  async reaches(haves: readonly string[], wants: readonly string[]): Promise<boolean> {
    const answer = await this.fetch({ wants, haves, filter: 'tree:0' })
    let header = Buffer.alloc(0)
    for (;;) {
      answer.forget()
      const packet = await answer.read()
      if (packet?.kind !== 'data') break
      if (packet.payload[0] !== 1 || header.length >= PACK_HEADER_BYTES) continue
      header = Buffer.concat([header, packet.payload.subarray(1)]).subarray(0, PACK_HEADER_BYTES)
    }
    return parsePackHeader(header)?.objects === 0
  }

  /**
   * What the host sends for these, as gitprotocol-v2 has it ("fetch"): a stream that stands behind the line `packfile`,
   * its packets with side-bands. What the host cannot do of it is left out: then it sends more.
   */
  async fetch({ wants, haves = [], filter, depth }: Fetching): Promise<PacketReader> {
    const request = [
      line('command=fetch'),
      line(`object-format=${this.#format}`),
      DELIM,
      line('ofs-delta'),
      line('no-progress'),
      ...(this.filters ? [line(`filter ${filter}`)] : []),
      ...(depth !== undefined && this.#features.includes('shallow') ? [line(`deepen ${depth}`)] : []),
      ...wants.map(id => line(`want ${id}`)),
      ...haves.map(id => line(`have ${id}`)),
      line('done'),
      FLUSH,
    ]
    const reader = new PacketReader(await this.#ask(request), { limit: SECTION_BYTES_MAX })
    for (let text = await textOf(reader); text !== 'packfile'; text = await textOf(reader)) {
      if (text === undefined) throw new ProtocolError('ERR_HOST', 'the Git host gave no pack')
    }
    return reader
  }

  /** Whether the host can leave out what it is not asked for; otherwise it sends everything. */
  get filters(): boolean {
    return this.#features.includes('filter')
  }

  get objectFormat(): ObjectFormat {
    return this.#format
  }

  /** An object id as the host would write it, or undefined. */
  id(text: string): string | undefined {
    return objectId(text, this.#format)
  }

  #ask(request: readonly Buffer[]): Promise<Readable> {
    return this.#upstream.exchange(Readable.from([Buffer.concat(request)], { objectMode: false }), this.#signal)
  }
}

/** The next line of an answer; undefined at its flush. Section ends are passed over. */
async function textOf(reader: PacketReader): Promise<string | undefined> {
  for (;;) {
    const packet = await reader.read()
    if (!packet || packet.kind === 'flush') return undefined
    if (packet.kind !== 'data') continue
    const text = packet.payload.toString('utf8').replace(/\n$/, '')
    if (text.startsWith('ERR ')) throw new ProtocolError('ERR_HOST', text.slice(4))
    return text
  }
}
