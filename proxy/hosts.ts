import type { UpstreamSettings } from '../config/settings.ts'
import { connectorFor } from './upstream/connect.ts'
import type { SshUpstreamExtras } from './upstream/ssh.ts'
import { type Connect, type Upstream, UpstreamError } from './upstream/upstream.ts'

/** The way to the host of a repository, by the first part of its name. */
export type HostOf = (repository: string) => Connect

/** The ways to the configured hosts, by name, each with the settings it was made from. */
export type Connectors = ReadonlyMap<string, { readonly madeFrom: string; readonly connect: Connect }>

/**
 * Makes the ways to the hosts. Those among `before` whose settings are the same are kept, with their warm connections and
 * their count of them; an operation keeps the way it began with.
 *
 * @throws when the settings of one cannot be used, such as a host key that cannot be read
 */
export function connectors(
  upstreams: ReadonlyMap<string, UpstreamSettings>,
  extrasFor: (settings: UpstreamSettings) => SshUpstreamExtras = () => ({}),
  before: Connectors = new Map(),
): Connectors {
  return new Map(
    [...upstreams].map(([name, settings]) => {
      const madeFrom = JSON.stringify(settings)
      const kept = before.get(name)
      if (kept?.madeFrom === madeFrom) return [name, kept]
      return [name, { madeFrom, connect: connectorFor(settings, extrasFor(settings)) }]
    }),
  )
}

/**
 * The way to a repository. A name that is none of the hosts' looks like a repository that is not there: what exists is not
 * to be found out by asking.
 */
export function hostIn(among: Connectors, repository: string): Connect {
  return among.get(repository.slice(0, repository.indexOf('/')))?.connect ?? (() => nowhere)
}

const missing = () => new UpstreamError('not-found', 'there is no such repository', 'no upstream has this name')

const nowhere: Upstream = {
  conversational: true,
  advertise: () => Promise.reject(missing()),
  exchange: () => Promise.reject(missing()),
  close: () => {},
}
