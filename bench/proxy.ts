import { registerHooks } from 'node:module'
import { pino } from 'pino'
import type { Settings, UpstreamSettings } from '../config/settings.ts'

// One proxy in a process of its own, so that its CPU and memory can be told from everybody else's.
// Its settings come as one JSON line on standard input; it prints its URLs and ends with its parent.

export interface Wire extends Omit<Settings, 'upstreams'> {
  readonly upstreams: readonly WireUpstream[]
  /** Records nothing, see `unrecorded.ts`. */
  readonly unrecorded?: boolean
}
type WireUpstream = Omit<UpstreamSettings, 'url'> & { readonly url: string }

let text = ''
for await (const chunk of process.stdin) {
  text += chunk
  if (text.endsWith('\n')) break
}
const wire = JSON.parse(text) as Wire
if (wire.unrecorded) {
  registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier.endsWith('/audit/emit.ts') ? new URL('unrecorded.ts', import.meta.url).href : specifier, context),
  })
}
const { main } = await import('../proxy/main.ts')
const upstreams = new Map(wire.upstreams.map(each => [each.name, { ...each, url: new URL(each.url) }]))
const role = await main({ ...wire, upstreams }, { log: pino({ level: 'silent' }) })
process.stdout.write(`${JSON.stringify(role.urls)}\n`)
process.once('SIGTERM', () => void role.close().then(() => process.exit(0)))
process.once('disconnect', () => process.exit(1))
