import type { Sql } from 'postgres'
import type { Log } from '../audit/emit.ts'
import { type Forwarder, type Forwarding, startForwarding } from '../audit/forward/forwarder.ts'
import { objects } from '../audit/forward/objects.ts'
import { syslog } from '../audit/forward/syslog.ts'
import { webhook } from '../audit/forward/webhook.ts'
import type { ForwardSettings, Settings } from '../config/settings.ts'

/** Sends the ledger on to where the settings say. */
export function forwardLedger(
  settings: Settings,
  rest: { readonly sql: Sql; readonly isWriter: () => boolean; readonly log: Log },
): Forwarding {
  const { forward = [] } = settings.ledger
  return startForwarding({ ...rest, forwarders: forward.map(one => forwarderOf(one, settings.name)) })
}

function forwarderOf(chosen: ForwardSettings, gate: string): Forwarder {
  // Readers of the ledger of other kinds have names of their own in the same table.
  const name = `forward ${chosen.name}`
  switch (chosen.type) {
    case 'syslog':
      return syslog({ ...chosen, name, gate })
    case 'webhook':
      return webhook({ ...chosen, name, source: 'drawbridge' })
    case 's3':
      return objects({ ...chosen, name })
  }
}

/** What must never stand in a record. */
export function forwardSecrets({ ledger }: Settings): string[] {
  return (ledger.forward ?? []).flatMap(one => {
    if (one.type === 'webhook') return [one.secret]
    return one.type === 's3' ? [one.secretKey] : []
  })
}
