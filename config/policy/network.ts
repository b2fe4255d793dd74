import { BlockList, isIP } from 'node:net'

/** Source networks of a rule. */
export interface Networks {
  readonly written: readonly string[]
  readonly list: BlockList
}

export const NETWORK_FORM = 'an address or network such as 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32'

/** Why this is no network; undefined when it is one. */
export function checkNetwork(text: string): string | undefined {
  const [address, bits, more] = text.split('/')
  const family = isIP(address!)
  if (family === 0 || more !== undefined) return `"${text.slice(0, 80)}" is not ${NETWORK_FORM}`
  if (bits === undefined) return undefined
  const most = family === 4 ? 32 : 128
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > most) return `"/${bits.slice(0, 10)}" is not between /0 and /${most}`
  return undefined
}

/** Takes what `checkNetwork` accepted. */
export function networks(written: readonly string[]): Networks {
  const list = new BlockList()
  for (const text of written) {
    const [address, bits] = text.split('/')
    const family = isIP(address!) === 4 ? 'ipv4' : 'ipv6'
    list.addSubnet(address!, bits === undefined ? (family === 'ipv4' ? 32 : 128) : Number(bits), family)
  }
  return { written, list }
}

/** An address nobody could make out is in no network. */
export function isInside({ list }: Networks, address: string | undefined): boolean {
  if (address === undefined) return false
  // A dual-stack listener reports IPv4 clients as ::ffff:10.0.0.1.
  const bare = address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')
  const family = isIP(bare)
  return family !== 0 && list.check(bare, family === 4 ? 'ipv4' : 'ipv6')
}
