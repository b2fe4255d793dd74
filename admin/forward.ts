import type { Redis } from 'ioredis'
import type { Sql } from 'postgres'
import { watchAnomalies } from '../audit/anomaly/watch.ts'
import type { Log } from '../audit/emit.ts'
import { type Forwarder, type Forwarding, startForwarding } from '../audit/forward/forwarder.ts'
import { objects } from '../audit/forward/objects.ts'
import { redisStream } from '../audit/forward/redis.ts'
import { syslog } from '../audit/forward/syslog.ts'
import { webhook } from '../audit/forward/webhook.ts'
import type { ForwardSettings, Settings } from '../config/settings.ts'
import type { Act } from './register/act.ts'

/** Sends the ledger on to where the settings say, and has it watched for what is unusual. */
export function forwardLedger(
  settings: Settings,
  given: {
    readonly sql: Sql
    readonly redis: Redis
    readonly act: Act
    readonly isWriter: () => boolean
    readonly log: Log
  },
): Forwarding {
  const { forward = [] } = settings.ledger
  const { redis, ...rest } = given
  const others = forward.map(one => forwarderOf(one, settings.name, redis))
  return startForwarding({ ...rest, forwarders: [watchAnomalies(given), ...others] })
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
