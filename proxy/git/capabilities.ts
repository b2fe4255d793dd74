import { ProtocolError } from './pktline.ts'

/** `name` or `name=value`; some names come several times (`symref`). */
export interface Capability {
  readonly name: string
  readonly value?: string
}

const CAPABILITIES_MAX = 256

/**
 * The capabilities in a list parted by blanks, as behind the NUL of v0 and v1.
 *
 * @throws ProtocolError for control characters (git ends a list at a second NUL, other hosts do not) and for too many
 */
export function parseCapabilities(text: string): Capability[] {
  // git parts the list at its own isspace: blank, tab, line feed, carriage return.
  const words = text.split(/[ \t\r\n]+/).filter(word => word !== '')
  if (words.length > CAPABILITIES_MAX) {
    throw new ProtocolError('ERR_CAPABILITIES_MAX', `more than ${CAPABILITIES_MAX} capabilities`)
  }
  return words.map(parseCapability)
}

/** One `name` or `name=value`. Throws ProtocolError for control characters. */
export function parseCapability(word: string): Capability {
  if (/[\x00-\x1f\x7f]/.test(word)) throw new ProtocolError('ERR_CAPABILITY', 'a control character in a capability')
  const equals = word.indexOf('=')
  return equals < 0 ? { name: word } : { name: word.slice(0, equals), value: word.slice(equals + 1) }
}

/** As it is written on the wire. */
export function formatCapability({ name, value }: Capability): string {
  return value === undefined ? name : `${name}=${value}`
}

/** The list without those of these names. */
export function without(capabilities: readonly Capability[], ...names: string[]): Capability[] {
  return capabilities.filter(({ name }) => !names.includes(name))
}

/** The list with `added` at its end, in the place of those of the same name. */
export function withCapability(capabilities: readonly Capability[], added: Capability): Capability[] {
  return [...without(capabilities, added.name), added]
}

/** The list with `feature` taken out of the words of `name` (v2: `fetch=shallow filter packfile-uris`). */
export function withoutFeature(capabilities: readonly Capability[], name: string, ...features: string[]): Capability[] {
  return capabilities.map(each => {
    if (each.name !== name || each.value === undefined) return each
    const kept = each.value.split(' ').filter(word => word !== '' && !features.includes(word))
    return kept.length > 0 ? { name, value: kept.join(' ') } : { name }
  })
}

/** The first value of `name`: undefined when it is not in the list, '' when it has no value. */
export function capabilityValue(capabilities: readonly Capability[], name: string): string | undefined {
  const found = capabilities.find(each => each.name === name)
  return found && (found.value ?? '')
}
