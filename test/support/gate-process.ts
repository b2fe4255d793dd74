import { pino } from 'pino'
import type { Settings } from '../../config/settings.ts'
import { main } from '../../proxy/main.ts'

// A proxy as a process of its own, for stories that kill it: settings in, addresses out, then it serves until it is told to end.

const settings = JSON.parse(process.argv[2] ?? '', (_key, value) => {
  if (typeof value === 'object' && value !== null && 'url$' in value) return new URL(value.url$)
  if (typeof value === 'object' && value !== null && 'map$' in value) return new Map(value.map$)
  return value
}) as Settings

const role = await main(settings, { log: pino({ level: 'info' }, pino.destination({ dest: 2, sync: true })) })
process.once('SIGTERM', () => role.close().then(() => process.exit(0)))
process.on('SIGHUP', () => void role.reload(settings))
process.stdout.write(`urls ${JSON.stringify(role.urls)}\n`)
