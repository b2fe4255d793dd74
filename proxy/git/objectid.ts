/** The hash a repository names its objects with. */
export type ObjectFormat = 'sha1' | 'sha256'

/** Bytes of the checksum a pack ends with: as long as an object id. */
export const TRAILER_BYTES = { sha1: 20, sha256: 32 } as const

const ID = { sha1: /^[0-9a-f]{40}$/i, sha256: /^[0-9a-f]{64}$/i } as const

/** The id in lower case, as git prints it; undefined when `text` is none. git reads either case. */
export function objectId(text: string, format: ObjectFormat): string | undefined {
  return ID[format].test(text) ? text.toLowerCase() : undefined
}

/** The id of nothing: no such ref before (create), or none afterwards (delete). */
export function isZero(id: string): boolean {
  return /^0+$/.test(id)
}

/** The format a name on the wire stands for; undefined for one we do not know. No name means sha1. */
export function objectFormat(name: string | undefined): ObjectFormat | undefined {
  if (name === undefined || name === 'sha1') return 'sha1'
  return name === 'sha256' ? 'sha256' : undefined
}
