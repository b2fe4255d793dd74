import { isIPv4, isIPv6 } from 'node:net'

/** An address as a number, so that a network is a comparison of leading bits. */
interface Address {
  readonly bits: 32 | 128
  readonly value: bigint
}

const ADDRESS_LIST_ENTRIES_MAX = 256
const MAPPED = 0xffffn << 32n

/**
 * Whether `address` is in a certificate's `source-address`: a list of addresses and CIDR networks, separated by commas.
 * Answers 'invalid' when any entry is wrong, even one behind a match, as OpenSSH's addr_match_cidr_list does: an empty
 * entry, a prefix too long, host bits set (10.0.0.1/8). OpenSSH also takes short and octal IPv4 spellings; here they are
 * invalid, so they can only refuse more. A client over a dual-stack socket (::ffff:10.0.0.1) is its IPv4 address.
 */
export function matchSourceAddress(address: string, list: string): 'match' | 'no-match' | 'invalid' {
  const client = clientAddress(address)
  const entries = list.split(',')
  if (entries.length > ADDRESS_LIST_ENTRIES_MAX) return 'invalid'
  let matched = false
  for (const entry of entries) {
    const network = parseNetwork(entry)
    if (network === undefined) return 'invalid'
    if (client !== undefined && contains(network, client)) matched = true
  }
  return matched ? 'match' : 'no-match'
}

function contains(network: Address & { prefix: number }, client: Address): boolean {
  const hostBits = BigInt(network.bits - network.prefix)
  return network.bits === client.bits && network.value >> hostBits === client.value >> hostBits
}

function parseNetwork(entry: string): (Address & { prefix: number }) | undefined {
  const [host = '', prefixText, more] = entry.split('/')
  // Only these characters: no zone (%eth0), no space.
  if (more !== undefined || !/^[0-9a-fA-F.:]+$/.test(host)) return undefined
  const address = parseAddress(host)
  if (address === undefined) return undefined
  if (prefixText === undefined) return { ...address, prefix: address.bits }
  if (!/^(0|[1-9][0-9]{0,2})$/.test(prefixText)) return undefined
  const prefix = Number(prefixText)
  if (prefix > address.bits) return undefined
  const hostBits = (1n << BigInt(address.bits - prefix)) - 1n
  return (address.value & hostBits) === 0n ? { ...address, prefix } : undefined
}

function clientAddress(text: string): Address | undefined {
  // A link-local client has its interface behind a percent sign; it is not part of the address.
  const address = parseAddress(text.replace(/%[^%]*$/, ''))
  if (address?.bits === 128 && address.value >> 32n === MAPPED >> 32n)
    return { bits: 32, value: address.value & 0xffff_ffffn }
  return address
}

function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { bits: 32, value: ipv4(text) }
  if (!isIPv6(text)) return undefined
  // A dotted quad at the end stands for the last two groups.
  const quad = /[^:]+\.[^:]+$/.exec(text)?.[0]
  const groupsText =
    quad === undefined
      ? text
      : text.replace(quad, `${(ipv4(quad) >> 16n).toString(16)}:${(ipv4(quad) & 0xffffn).toString(16)}`)
  const [head = '', tail] = groupsText.split('::')
  const before = groups(head)
  const after = groups(tail ?? '')
  const zeros = new Array<string>(8 - before.length - after.length).fill('0')
  const value = [...before, ...(tail === undefined ? [] : zeros), ...after].reduce(
    (sum, group) => (sum << 16n) | BigInt(`0x${group}`),
    0n,
  )
  return { bits: 128, value }
}

function groups(text: string): string[] {
  return text === '' ? [] : text.split(':')
}

function ipv4(text: string): bigint {
  return text.split('.').reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n)
}
