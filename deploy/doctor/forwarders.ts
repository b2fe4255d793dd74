import type { Sql } from 'postgres'
import { type ReaderState, readerStates } from '../../audit/forward/state.ts'
import type { Settings } from '../../config/settings.ts'
import { writeDuration } from '../../config/units.ts'
import { type Finding, ok, warning } from './finding.ts'

/** Records wait this long for nobody who is there: a forwarder lingers a minute at most. */
const WAITING_MILLISECONDS_MAX = 15 * 60_000

/** Whether those that are told of each record have it. Nothing of those that never ran: the first start of a gate is no fault. */
export async function forwarderFindings(sql: Sql, { ledger }: Settings): Promise<Finding[]> {
  const names = ['anomalies', ...(ledger.forward ?? []).map(({ name }) => `forward ${name}`)]
  return (await readerStates(sql, names)).map(findingOf)
}

function findingOf({ name, seq, behind, waiting, failing }: ReaderState): Finding {
  const check = `ledger.${name.replace(' ', '.')}`
  if (failing !== undefined) {
    const found = `${failing.fault}; it has stood at record ${seq} for ${inMinutes(Date.now() - failing.since)}, and ${behind} wait`
    return warning(
      check,
      found,
      'look at the receiver; nothing is lost, and it goes on by itself, but retention does not wait for it',
    )
  }
  if (waiting <= WAITING_MILLISECONDS_MAX)
    return ok(check, behind === 0 ? 'it has every record' : `${behind} records behind`)
  const found = `${behind} records have waited for it, the oldest ${inMinutes(waiting)}`
  return warning(check, found, 'start the admin role: it is what sends them; its log says why if it runs')
}

const inMinutes = (milliseconds: number) => writeDuration(Math.max(1, Math.round(milliseconds / 60_000)) * 60_000)
