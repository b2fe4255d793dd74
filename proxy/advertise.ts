import { newId } from '../audit/id.ts'
import type { Action } from '../grant/grant.ts'
import { limitsPaths } from '../grant/pattern.ts'
import type { Bypasses } from './bypass.ts'
import type { Client } from './client.ts'
import type { Gate } from './gate.ts'
import { rewriteAdvertisement } from './git/advertisement.ts'
import { type Capability, withCapability, without, withoutFeature } from './git/capabilities.ts'
import { hideAdvertised } from './git/hiderefs.ts'
import { noting, reading, type Tips } from './reading.ts'
import { errPacket, type Refusal, refusal } from './refusal.ts'
import { relay } from './relay.ts'
import type { Session } from './session.ts'
import { type Target, type Upstream, UpstreamError } from './upstream/upstream.ts'
import type { Wanted } from './wanted.ts'

/** Any of these lets a principal see what a repository's service offers. */
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

/** What a push is told of the repository: any grant for it will do. */
function beforePush(operation: string): Wanted {
  return {
    operation,
    action: 'list',
    actions: PUSH_ACTIONS,
    covers: live => (live.length > 0 ? live : undefined),
    mayWait: true,
  }
}

/**
 * The first thing a git client asks of a host: checked, recorded, and relayed without the capabilities that lead around
 * the gate. A refusal becomes the `ERR` packet git shows best at this point. Who reads under a window for some refs is
 * told of those; what they are told of is noted in `tips`.
 */
export async function advertise(
  client: Client,
  { gate, bypasses }: { readonly gate: Gate; readonly bypasses?: Bypasses | undefined },
  upstream: Upstream,
  tips: Tips = new Map(),
): Promise<Served> {
  const operation = newId('op')
  const toRead = client.service === 'receive-pack' ? undefined : reading({ operation, action: 'list', mayWait: true })
  const session = await gate.open(client, toRead ?? beforePush(operation))
  if ('kind' in session) return refuse(client, session)
  try {
    const view = toRead?.viewFor(session, gate.showsAll(client))
    const listing = bypasses?.listing(session)
    const advertisement = rewriteAdvertisement(
      await upstream.advertise(session.signal),
      capabilities =>
        toRead ? fetchCapabilities(capabilities, view !== undefined) : pushCapabilities(capabilities, session),
      view && ((head, capabilities) => hideAdvertised(head, capabilities, noting(view, tips))),
    )
    const how = await relay(advertisement, client.response, session, { framed: true, ...listing })
    if (how === 'stopped') return stopped(client, session)
    // Not waited for: the client has its answer, and the gate waits for the record before it stops.
    void session.end({ result: 'ok' })
    return { status: 0, operation }
  } catch (error) {
    return failed(client, session, error)
  }
}

// A signed push carries a second list of commands that git executes as well; the proxy refuses it, so it is not offered.
// `no-thin` where a fast-forward, or what is changed, may have to be shown: a thin pack cannot be read without the host's
// own objects.
function pushCapabilities(capabilities: readonly Capability[], session: Session): readonly Capability[] {
  const offered = without(capabilities, 'push-cert')
  const told = session.grants.some(
    grant => limitsPaths(grant) || (grant.actions.includes('update') && !grant.actions.includes('force')),
  )
  return told ? withCapability(offered, { name: 'no-thin' }) : offered
}

// Each of these sends the client elsewhere for its objects, or answers questions the gate does not read.
function fetchCapabilities(capabilities: readonly Capability[], forSomeRefs: boolean): readonly Capability[] {
  const offered = without(capabilities, 'bundle-uri', 'promisor-remote', 'object-info', 'session-id')
  const own = withoutFeature(offered, 'fetch', 'packfile-uris')
  return forSomeRefs ? withoutFeature(without(own, ...BEYOND_REFS), 'fetch', 'filter') : own
}

/** What would be refused, or stripped, under a window for some refs: ids that are no tips, blobs one by one, tags that were not asked for. */
const BEYOND_REFS = ['allow-tip-sha1-in-want', 'allow-reachable-sha1-in-want', 'filter', 'include-tag']

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
