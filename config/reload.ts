import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { Address, Listener, Settings } from './settings.ts'

/** Settings that are taken up at the start of a role alone, by the name they have in the file. */
export type Fixed = Readonly<Record<string, (settings: Settings) => unknown>>

/** What no role can change while it runs. */
export const FIXED: Fixed = {
  name: ({ name }) => name,
  redis: ({ redis }) => redis,
  postgres: ({ postgres }) => postgres,
  state: ({ state }) => state,
  'listen.metrics': ({ listen }) => listen.metrics,
}

/** Where a listener listens, and whether with TLS and whose; certificate files may change. */
export function place(listener: Listener | Address | undefined): unknown {
  if (!listener) return undefined
  const tls = 'tls' in listener ? listener.tls : undefined
  return { host: listener.host, port: listener.port, tls: tls && (tls.issued ? 'ca' : 'files') }
}

/** New settings that ask for what a running role cannot do. */
export class NeedsRestart extends Error {
  readonly code = 'ERR_CONFIG_NEEDS_RESTART'
  readonly settings: readonly string[]
  constructor(settings: readonly string[]) {
    super(`${settings.join(', ')} cannot change while the gate runs; nothing was changed: undo that, or restart`)
    this.name = 'NeedsRestart'
    this.settings = settings
  }
}

/** @throws NeedsRestart naming every setting that differs and must not */
export function requireSame(before: Settings, after: Settings, fixed: Fixed): void {
  const changed = Object.entries(fixed).filter(([, of]) => !isDeepStrictEqual(of(before), of(after)))
  if (changed.length > 0) throw new NeedsRestart(changed.map(([setting]) => setting))
}

/** Names the content of a settings file in records: SHA-256 of it, in hex. Nothing of what `${NAME}` and `{ file }` bring in is in it. */
export function settingsVersion(file: string): string {
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex')
  } catch {
    return 'unreadable'
  }
}
