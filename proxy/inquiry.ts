import { Readable } from 'node:stream'
import { readAdvertisement } from './git/advertisement.ts'
import { capabilityValue } from './git/capabilities.ts'
import { type ObjectFormat, objectId } from './git/objectid.ts'
import { DELIM, FLUSH, line, PacketReader, ProtocolError } from './git/pktline.ts'
import type { Connect, Target, Upstream } from './upstream/upstream.ts'

const LS_REFS_BYTES_MAX = 4 << 20
const SECTION_BYTES_MAX = 1 << 20

/**
 * What the gate itself asks of the host while it holds a push back: is a ref symbolic, and what lies between a commit and
 * the refs it would move. Always upload-pack, protocol 2; a host that does not speak it leaves the question open, and an
 * open question is a no.
 */
export class Inquiry {
  readonly #upstream: Upstream
  readonly #format: ObjectFormat
  readonly #filters: boolean
  readonly #signal: AbortSignal

  private constructor(upstream: Upstream, format: ObjectFormat, filters: boolean, signal: AbortSignal) {
    this.#upstream = upstream
    this.#format = format
    this.#filters = filters
    this.#signal = signal
  }

  /** @throws UpstreamError; ProtocolError when the host does not speak protocol 2 */
  static async open(connect: Connect, target: Omit<Target, 'service' | 'protocol' | 'stateless'>, signal: AbortSignal) {
    const upstream = connect({ ...target, service: 'upload-pack', protocol: 2, stateless: false })
    try {
      const { protocol, capabilities, objectFormat } = await readAdvertisement(await upstream.advertise(signal))
      if (protocol !== 2) throw new ProtocolError('ERR_HOST_PROTOCOL', 'the Git host does not speak protocol version 2')
      const filters = capabilityValue(capabilities, 'fetch')?.split(' ').includes('filter') ?? false
      return new Inquiry(upstream, objectFormat, filters, signal)
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

  /**
   * The pack of what `wants` reach and `have` does not: the commits alone where the host can filter. Its stream carries
   * side-band packets (gitprotocol-v2, "fetch").
   */
  async between(wants: readonly string[], have: string): Promise<PacketReader> {
    const request = [
      line('command=fetch'),
      line(`object-format=${this.#format}`),
      DELIM,
      line('ofs-delta'),
      line('no-progress'),
      ...(this.#filters ? [line('filter tree:0')] : []),
      ...wants.map(id => line(`want ${id}`)),
      line(`have ${have}`),
      line('done'),
      FLUSH,
    ]
    const reader = new PacketReader(await this.#ask(request), { limit: SECTION_BYTES_MAX })
    for (let text = await textOf(reader); text !== 'packfile'; text = await textOf(reader)) {
      if (text === undefined) throw new ProtocolError('ERR_HOST', 'the Git host gave no pack')
    }
    return reader
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
