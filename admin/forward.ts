import type { Redis } from 'ioredis'
import type { Sql } from 'postgres'
import type { Log } from '../audit/emit.ts'
import { type Forwarder, type Forwarding, startForwarding } from '../audit/forward/forwarder.ts'
import { objects } from '../audit/forward/objects.ts'
import { redisStream } from '../audit/forward/redis.ts'
import { syslog } from '../audit/forward/syslog.ts'
import { webhook } from '../audit/forward/webhook.ts'
import type { ForwardSettings, Settings } from '../config/settings.ts'

/** Sends the ledger on to where the settings say. */
export function forwardLedger(
  settings: Settings,
  given: { readonly sql: Sql; readonly redis: Redis; readonly isWriter: () => boolean; readonly log: Log },
): Forwarding {
  const { forward = [] } = settings.ledger
  const { redis, ...rest } = given
  return startForwarding({ ...rest, forwarders: forward.map(one => forwarderOf(one, settings.name, redis)) })
}

function forwarderOf(chosen: ForwardSettings, gate: string, redis: Redis): Forwarder {
  // Readers of the ledger of other kinds have names of their own in the same table.
  const name = `forward ${chosen.name}`
  switch (chosen.type) {
    case 'syslog':
      return syslog({ ...chosen, name, gate })
    case 'webhook':
      return webhook({ ...chosen, name, source: 'drawbridge' })
    case 'redis': {
      const { stream, keep } = chosen
      const add = (id: string, record: string) => redis.xadd(stream, 'MAXLEN', '~', keep, id, 'record', record)
      return redisStream({ name, add })
    }
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
