import type { UpstreamSettings } from '../../config/settings.ts'
import { httpUpstream } from './http.ts'
import { localUpstream } from './local.ts'
import { type SshUpstreamExtras, sshUpstream } from './ssh.ts'
import type { Connect } from './upstream.ts'

/**
 * The way to one upstream, by the protocol of its URL. Made once: it may hold connections.
 *
 * @throws for a protocol that is none of ours; the settings were checked for it before
 */
export function connectorFor(settings: UpstreamSettings, ssh: SshUpstreamExtras = {}): Connect {
  switch (settings.url.protocol) {
    case 'http:':
    case 'https:':
      return httpUpstream(settings)
    case 'ssh:':
      return sshUpstream(settings, ssh)
    case 'file:':
      return localUpstream(settings)
    default:
      throw new Error(`upstream ${settings.name}: no way to ${settings.url.protocol} URLs`)
  }
}
