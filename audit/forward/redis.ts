import { jsonLine } from '../export.ts'
import type { Forwarder } from './forwarder.ts'

const RECORDS_PER_BATCH = 500
/** What Redis says to an id that is not above the last one. */
const ALREADY_THERE = /equal or smaller/

export interface StreamOptions {
  readonly name: string
  /** XADD of one entry under an id of its own. */
  readonly add: (id: string, record: string) => Promise<unknown>
}

/**
 * A Redis stream, for machines that read by consumer groups. An entry's id is `SEQ-0`, and Redis takes none that is not above the last: what is sent
 * again is there once all the same.
 */
export function redisStream({ name, add }: StreamOptions): Forwarder {
  return {
    name,
    records: RECORDS_PER_BATCH,
    async send({ rows }) {
      // One after another: behind an entry that failed a later one must not be taken, or there would be no way back.
      for (const row of rows) {
        await add(`${row.seq}-0`, jsonLine(row).trimEnd()).catch(cause => {
          if (!ALREADY_THERE.test(String(cause))) throw cause
        })
      }
    },
  }
}
