import type { UpstreamSettings } from '../config/settings.ts'
import { connectorFor } from './upstream/connect.ts'
import { type Connect, type Upstream, UpstreamError } from './upstream/upstream.ts'

/** The way to the host of a repository, by the first part of its name. */
export type HostOf = (repository: string) => Connect

/**
 * The configured hosts. A name that is none of them looks like a repository that is not there: what exists is not to be
 * found out by asking.
 */
export function hosts(upstreams: ReadonlyMap<string, UpstreamSettings>): HostOf {
  const connectors = new Map([...upstreams].map(([name, settings]) => [name, connectorFor(settings)]))
  return repository => connectors.get(repository.slice(0, repository.indexOf('/'))) ?? (() => nowhere)
}

const missing = () => new UpstreamError('not-found', 'there is no such repository', 'no upstream has this name')

const nowhere: Upstream = {
  conversational: true,
  advertise: () => Promise.reject(missing()),
  exchange: () => Promise.reject(missing()),
  close: () => {},
}
