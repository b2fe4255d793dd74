import { BlockList, isIP, isIPv4, type Socket } from 'node:net'

// The PROXY protocol (haproxy, doc/proxy-protocol.txt), versions 1 and 2: a load balancer that passes TCP through
// writes, before the client's first byte, where the connection really comes from.

/** Where a connection really comes from. */
export interface Source {
  readonly address: string
  readonly port: number
}

/** A load balancer's header that is not one, or that says nothing we can put into a record. */
export class SourceError extends Error {
  readonly code = 'ERR_PROXY_PROTOCOL'
  constructor(message: string) {
    super(message)
    this.name = 'SourceError'
  }
}

/** The header was read; the client's bytes begin at `length`. `local`: the balancer's own connection, a health check. */
export type SourceHeader =
  | { readonly kind: 'proxied'; readonly source: Source; readonly length: number }
  | { readonly kind: 'local'; readonly length: number }

const V1_BYTES_MAX = 107
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const V2_HEAD_BYTES = 16
/** Addresses take 36 bytes; the rest are TLVs such as the balancer's own TLS facts, which are skipped. */
const V2_PAYLOAD_BYTES_MAX = 2048

/**
 * Reads a PROXY header off the front of `bytes`.
 *
 * @returns undefined when more bytes are needed; never asks for more than 2 KiB
 * @throws SourceError for anything that is not a complete, known header
 */
export function parseSourceHeader(bytes: Buffer): SourceHeader | undefined {
  if (bytes.length === 0) return undefined
  return bytes[0] === V2_SIGNATURE[0] ? parseVersion2(bytes) : parseVersion1(bytes)
}

// "PROXY" SP ("TCP4" | "TCP6") SP source SP destination SP port SP port CRLF
const V1_PREFIX = 'PROXY '
const V1_LINE = /^PROXY (TCP4|TCP6) ([0-9a-fA-F.:]{2,39}) ([0-9a-fA-F.:]{2,39}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/

function parseVersion1(bytes: Buffer): SourceHeader | undefined {
  const text = bytes.subarray(0, V1_BYTES_MAX).toString('latin1')
  if (!text.startsWith(V1_PREFIX.slice(0, text.length))) throw new SourceError('no PROXY header')
  const end = text.indexOf('\r\n')
  if (end < 0) {
    if (bytes.length >= V1_BYTES_MAX) throw new SourceError(`a PROXY line is longer than ${V1_BYTES_MAX} bytes`)
    return undefined
  }
  // `PROXY UNKNOWN` ends up here too: a record without an address is no record.
  const fields = V1_LINE.exec(text.slice(0, end))
  if (!fields) throw new SourceError('malformed or unknown PROXY line')
  const [, family, address = '', destination = '', port, destinationPort] = fields
  const version = family === 'TCP4' ? 4 : 6
  if (isIP(address) !== version || isIP(destination) !== version) {
    throw new SourceError(`a PROXY line's addresses are not ${family}`)
  }
  if (Number(port) > 0xffff || Number(destinationPort) > 0xffff)
    throw new SourceError('a PROXY line with a port above 65535')
  return { kind: 'proxied', source: { address: plainAddress(address), port: Number(port) }, length: end + 2 }
}

//  12 signature · 1 version (2) and command (0 LOCAL, 1 PROXY) · 1 family and transport · 2 length of what follows
//  TCP over IPv4 (11): 4 source · 4 destination · 2 port · 2 port      TCP over IPv6 (21): 16 · 16 · 2 · 2
//  then TLVs
function parseVersion2(bytes: Buffer): SourceHeader | undefined {
  const signature = bytes.subarray(0, V2_SIGNATURE.length)
  if (!V2_SIGNATURE.subarray(0, signature.length).equals(signature)) throw new SourceError('no PROXY header')
  if (bytes.length < V2_HEAD_BYTES) return undefined
  const command = bytes.readUInt8(12)
  const family = bytes.readUInt8(13)
  const payload = bytes.readUInt16BE(14)
  if (payload > V2_PAYLOAD_BYTES_MAX) throw new SourceError(`a PROXY header of ${payload} bytes`)
  const length = V2_HEAD_BYTES + payload
  if (command !== 0x20 && command !== 0x21) throw new SourceError('unknown PROXY version or command')
  if (bytes.length < length) return undefined
  if (command === 0x20) return { kind: 'local', length }

  const body = bytes.subarray(V2_HEAD_BYTES, length)
  if (family === 0x11 && payload >= 12) {
    const address = [...body.subarray(0, 4)].join('.')
    return { kind: 'proxied', source: { address, port: body.readUInt16BE(8) }, length }
  }
  if (family === 0x21 && payload >= 36) {
    const groups = Array.from({ length: 8 }, (_, i) => body.readUInt16BE(i * 2).toString(16))
    return { kind: 'proxied', source: { address: plainAddress(groups.join(':')), port: body.readUInt16BE(32) }, length }
  }
  throw new SourceError('a PROXY header for something other than TCP over IPv4 or IPv6')
}

/** An IP address in one spelling: IPv4 in its four numbers even where it came mapped into IPv6, IPv6 as RFC 5952. */
export function plainAddress(address: string): string {
  if (isIPv4(address)) return address
  // URL writes IPv6 in its canonical form; a zone index (`%eth0`) means nothing outside this machine.
  const canonical = new URL(`http://[${address.replace(/%.*$/, '')}]/`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (!mapped) return canonical
  const high = Number.parseInt(mapped[1]!, 16)
  const low = Number.parseInt(mapped[2]!, 16)
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

/**
 * The test whether an address is one of the load balancers in `cidrs` (`10.0.0.0/8`, `fd00::/8`, a single address).
 *
 * @throws SourceError for a CIDR that is not one
 */
export function loadBalancers(cidrs: readonly string[]): (address: string) => boolean {
  const listed = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', prefix, ...rest] = cidr.split('/')
    const version = isIP(address)
    const bits = prefix === undefined ? (version === 4 ? 32 : 128) : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1
    if (version === 0 || rest.length > 0 || bits < 0 || bits > (version === 4 ? 32 : 128)) {
      throw new SourceError(`${JSON.stringify(cidr)} is no address range; write it as 10.0.0.0/8 or fd00::/8`)
    }
    listed.addSubnet(address, bits, version === 4 ? 'ipv4' : 'ipv6')
  }
  return address => {
    const version = isIP(address)
    return version !== 0 && listed.check(address, version === 4 ? 'ipv4' : 'ipv6')
  }
}

/**
 * Where the connection on `socket` comes from. From a listed load balancer the PROXY header is required and taken off;
 * from anybody else nothing is read, so that nobody can write an address into the record by sending a header himself.
 * The socket is left standing at the client's first byte.
 *
 * @param milliseconds how long the header may take
 * @throws SourceError when the header is missing, malformed, unknown or late, or the peer left; the caller closes the socket
 */
export async function readSource(
  socket: Socket,
  isLoadBalancer: (address: string) => boolean,
  milliseconds: number,
): Promise<Source> {
  if (socket.remoteAddress === undefined) throw new SourceError('the peer left before it was asked for its address')
  const peer: Source = { address: plainAddress(socket.remoteAddress), port: socket.remotePort ?? 0 }
  if (!isLoadBalancer(peer.address)) return peer
  const header = await readHeader(socket, milliseconds)
  return header.kind === 'proxied' ? header.source : peer
}

function readHeader(socket: Socket, milliseconds: number): Promise<SourceHeader> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0)
    const timer = setTimeout(() => done(new SourceError('the PROXY header did not come in time')), milliseconds)
    const onReadable = () => {
      try {
        for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
          bytes = Buffer.concat([bytes, chunk])
          const header = parseSourceHeader(bytes)
          if (!header) continue
          done(header)
          if (header.length < bytes.length) socket.unshift(bytes.subarray(header.length))
          return
        }
      } catch (error) {
        done(error instanceof Error ? error : new SourceError(String(error)))
      }
    }
    const onGone = () => done(new SourceError('the load balancer left before its PROXY header was complete'))
    function done(outcome: SourceHeader | Error) {
      clearTimeout(timer)
      socket.off('readable', onReadable).off('end', onGone).off('close', onGone).off('error', onGone)
      if (outcome instanceof Error) reject(outcome)
      else resolve(outcome)
    }
    socket.on('readable', onReadable).on('end', onGone).on('close', onGone).on('error', onGone)
  })
}
