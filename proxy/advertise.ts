import { newId } from '../audit/id.ts'
import type { Action } from '../grant/grant.ts'
import type { Client } from './client.ts'
import type { Gate, Wanted } from './gate.ts'
import { rewriteAdvertisement } from './git/advertisement.ts'
import { type Capability, withCapability, without, withoutFeature } from './git/capabilities.ts'
import { errPacket, type Refusal, refusal } from './refusal.ts'
import { relay } from './relay.ts'
import type { Session } from './session.ts'
import { type Target, type Upstream, UpstreamError } from './upstream/upstream.ts'

/** Any of these lets a principal see what a repository's service offers. */
export const FETCH_ACTIONS: readonly Action[] = ['fetch']
export const PUSH_ACTIONS: readonly Action[] = ['create', 'update', 'force', 'delete', 'tag']
export const ARCHIVE_ACTIONS: readonly Action[] = ['archive']

/** Exit status of an SSH channel, and the operation a person can quote. */
export interface Served {
  readonly status: 0 | 1 | 128
  readonly operation: string
}

/** The host's side of what a client asks for. */
export function targetOf(client: Client, operation: string): Target {
  return {
    path: client.repository.slice(client.repository.indexOf('/') + 1),
    service: client.service,
    // receive-pack has no protocol 2; asked for it, git answers in its first.
    protocol: client.service === 'receive-pack' && client.protocol === 2 ? 0 : client.protocol,
    stateless: client.part !== 'conversation',
    principal: client.caller.principal,
    operation,
  }
}

/** Reading what there is: any grant on the repository for this service. */
export function listing(client: Client): Wanted {
  return {
    operation: newId('op'),
    action: 'list',
    actions: client.service === 'receive-pack' ? PUSH_ACTIONS : FETCH_ACTIONS,
    covers: live => (live.length > 0 ? live : undefined),
    mayWait: true,
  }
}

/**
 * The first thing a git client asks of a host: checked, recorded, and relayed without the capabilities that lead around
 * the gate. A refusal becomes the `ERR` packet git shows best at this point.
 */
export async function advertise(client: Client, gate: Gate, upstream: Upstream): Promise<Served> {
  const wanted = listing(client)
  const session = await gate.open(client, wanted)
  if ('kind' in session) return refuse(client, session)
  try {
    const advertisement = rewriteAdvertisement(await upstream.advertise(session.signal), capabilities =>
      client.service === 'receive-pack' ? pushCapabilities(capabilities, session) : fetchCapabilities(capabilities),
    )
    const how = await relay(advertisement, client.response, session, { framed: true })
    if (how === 'stopped') return stopped(client, session)
    // Not waited for: the client has its answer, and the gate waits for the record before it stops.
    void session.end({ result: 'ok' })
    return { status: 0, operation: wanted.operation }
  } catch (error) {
    return failed(client, session, error)
  }
}

// A signed push carries a second list of commands that git executes as well; the proxy refuses it, so it is not offered.
// `no-thin` where a fast-forward may have to be shown: a thin pack cannot be read without the host's own objects.
function pushCapabilities(capabilities: readonly Capability[], session: Session): readonly Capability[] {
  const offered = without(capabilities, 'push-cert')
  const told = session.grants.some(grant => grant.actions.includes('update') && !grant.actions.includes('force'))
  return told ? withCapability(offered, { name: 'no-thin' }) : offered
}

// Each of these sends the client elsewhere for its objects, or answers questions the gate does not read.
function fetchCapabilities(capabilities: readonly Capability[]): readonly Capability[] {
  const offered = without(capabilities, 'bundle-uri', 'promisor-remote', 'object-info', 'session-id')
  return withoutFeature(offered, 'fetch', 'packfile-uris')
}

/** Says no where git reads packets and nothing has been promised yet. */
export function refuse(client: Client, refused: Refusal): Served {
  client.response.write(errPacket(refused))
  return { status: 128, operation: refused.operation }
}

/** A relay was stopped before its end: cut, or the client is gone. */
export async function stopped(client: Client, session: Session, say = errPacket): Promise<Served> {
  const { cutBy, operation } = session
  if (cutBy) client.response.write(say(cutBy))
  await session.end(
    cutBy ? { result: 'cut', reason: cutBy.sentence } : { result: 'failed', reason: 'the client went away' },
  )
  return { status: 128, operation }
}

/** Something broke off. The person hears a sentence that reveals nothing; the record and the log hold the rest. */
export async function failed(client: Client, session: Session, error: unknown, say = errPacket): Promise<Served> {
  if (session.signal.aborted) return stopped(client, session, say)
  const { message, detail } = fault(error)
  client.response.write(say(refusal(session.operation, 'upstream', client.repository, client.service, message)))
  await session.end({ result: 'failed', reason: detail })
  return { status: 128, operation: session.operation }
}

/** What may be told of a fault, and what is for the record. */
export function fault(error: unknown): { message: string; detail: string } {
  if (error instanceof UpstreamError) return { message: error.message, detail: `${error.code}: ${error.detail}` }
  const detail = error instanceof Error ? error.message : String(error)
  return { message: 'the Git host broke off', detail }
}
