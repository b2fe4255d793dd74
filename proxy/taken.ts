import { parsePublicKeyLine } from '../ca/key.ts'
import { FIXED, type Fixed, place } from '../config/reload.ts'
import type { Settings, UpstreamSettings } from '../config/settings.ts'
import { type Connectors, connectors } from './hosts.ts'
import { loadBalancers } from './source.ts'
import type { SshUpstreamExtras } from './upstream/ssh.ts'

/** Read once, when the proxy starts. `channels` is ssh2's own. */
export const FIXED_HERE: Fixed = {
  ...FIXED,
  'listen.http': ({ listen }) => place(listen.http),
  'listen.ssh': ({ listen }) => place(listen.ssh),
  'ssh.host_keys': ({ ssh }) => ssh.hostKeys,
  ca: ({ ca }) => ca,
  'limits.channels': ({ limits }) => limits.channels,
  ledger: ({ ledger }) => ledger,
  'telemetry.traces': ({ traces }) => traces,
  reuse: ({ reuse }) => reuse,
  workers: ({ workers }) => workers,
}

/** What is made from settings and made anew by a reload. Whoever needs it asks for it at each use. */
export interface Taken {
  readonly settings: Settings
  readonly hosts: Connectors
  readonly authorities: ReadonlySet<string>
  isLoadBalancer(address: string): boolean
}

/** `loginsTo` gives what a host reached by SSH is logged in to with; connectors that stay as they were are kept from `before`. */
export function take(settings: Settings, loginsTo: (to: UpstreamSettings) => SshUpstreamExtras, before?: Taken): Taken {
  return {
    settings,
    hosts: connectors(settings.upstreams, loginsTo, before?.hosts),
    authorities: new Set(settings.ssh.trustedUserCAKeys.map(line => parsePublicKeyLine(line).blob.toString('base64'))),
    isLoadBalancer: loadBalancers(settings.proxyProtocol),
  }
}
