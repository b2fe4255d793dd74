import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import postgres from 'postgres'
import { startLedger } from '../../audit/main.ts'

// The ledger writer as a process of its own, for stories that kill it: the database's URL and a folder in, then it writes until it ends.

const [url = '', state = ''] = process.argv.slice(2)
const connect = (max: number) =>
  postgres(url, { max, connect_timeout: 2, idle_timeout: 0, max_lifetime: null, backoff: false, onnotice() {} })
const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }))
const headEvery = { records: 20, milliseconds: 500 }
await startLedger({ sql: connect(4), lock: connect(1), state, boot: randomUUID(), headEvery, log })
process.stdout.write('writing\n')
