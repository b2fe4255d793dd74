import { Readable } from 'node:stream'
import { newId } from '../audit/id.ts'
import { advertise, failed, refuse, type Served, stopped, targetOf } from './advertise.ts'
import { askToRead } from './asking.ts'
import type { Bypasses } from './bypass.ts'
import type { Client } from './client.ts'
import type { Gate } from './gate.ts'
import { hideListed, type View } from './git/hiderefs.ts'
import type { ObjectFormat } from './git/objectid.ts'
import { watchPack } from './git/packwatch.ts'
import { line, PacketReader, ProtocolError } from './git/pktline.ts'
import { band, remoteText, type Sideband, sidebandOf } from './git/sideband.ts'
import {
  type Command,
  commandReader,
  type Fetch,
  type FetchRequest,
  formatOf,
  readCommand,
  readFetchRequest,
  withoutTags,
} from './git/uploadpack.ts'
import type { HostOf } from './hosts.ts'
import { notice } from './notice.ts'
import { heldTo, noting, type Reading, readableTips, reading, stillShown, type Tips, whyBeyond } from './reading.ts'
import { errPacket, lines, type Refusal, refusal } from './refusal.ts'
import { relay } from './relay.ts'
import { type Releasable, releasable } from './reuse/releasable.ts'
import type { Given, Reuse } from './reuse/reuse.ts'
import type { Session } from './session.ts'

export interface FetchOptions {
  readonly gate: Gate
  readonly hostOf: HostOf
  /** Answers for many who ask for the same; absent: the host is asked by each. */
  readonly reuse?: Reuse | undefined
  readonly bypasses?: Bypasses | undefined
}

/**
 * A clone, fetch or ls-remote. Protocol 2 is a row of commands, each checked and recorded for what it is; protocols 0 and
 * 1 are one request, or over SSH one conversation.
 */
export async function fetch(client: Client, options: FetchOptions): Promise<Served> {
  const operation = newId('op')
  const connect = () => options.hostOf(client.repository)(targetOf(client, operation))
  const host: Host = { ...options, upstream: releasable(connect), tips: new Map() }
  try {
    if (client.part !== 'exchange') {
      const listed = await advertise(client, host, host.upstream, host.tips)
      if (listed.status !== 0 || client.part === 'advertise') return listed
    }
    return client.protocol === 2 ? await commands(client, host, operation) : await negotiate(client, host, operation)
  } finally {
    host.upstream.close()
  }
}

interface Host extends FetchOptions {
  readonly upstream: Releasable
  /** What the client was told of in this conversation, under a window for some refs. */
  readonly tips: Tips
}

// ---- protocol 2 ----

async function commands(client: Client, host: Host, first: string): Promise<Served> {
  const { gate, upstream, reuse } = host
  const reader = commandReader(client.request)
  for (let operation = first; ; operation = newId('op')) {
    let command: Command | undefined
    try {
      command = await readCommand(reader)
    } catch (error) {
      return misunderstood(client, gate, operation, error)
    }
    if (!command) return { status: 0, operation }
    if (command.command === 'other') {
      const why = `the command ${JSON.stringify(command.name)} is not passed on`
      return refuse(client, await gate.refuse(client, reading({ operation, action: 'list' }), 'protocol', why))
    }
    const fetching = command.command === 'fetch' ? command : undefined
    const { raw, capabilities } = command
    const served = await one(client, host, {
      wanted: reading({ operation, action: fetching ? 'fetch' : 'list' }, fetching?.fetch),
      body: view => Readable.from([view && fetching ? withoutTags(fetching) : raw], { objectMode: false }),
      bytes: raw.length,
      format: formatOf(capabilities),
      asked: fetching?.fetch,
      // Every answer of protocol 2 that carries a pack carries it on side-band.
      sideband: fetching && 'side-band-64k',
      ...(fetching &&
        reuse && {
          reuse: session => reuse.exchange({ client, session, command: fetching, release: upstream.release }),
        }),
    })
    if (served.status !== 0 || client.part === 'exchange') return served
  }
}

// ---- protocols 0 and 1 ----

async function negotiate(client: Client, host: Host, operation: string): Promise<Served> {
  const { gate, upstream } = host
  const conversation = client.part === 'conversation'
  let request: FetchRequest | undefined
  let done: boolean
  try {
    request = await readFetchRequest(client.request, { stateless: !conversation })
    if (!request) return { status: 0, operation }
    // A clone has nothing to negotiate: over SSH its `done` follows the wants, and all of it is one request. One that asks
    // for a depth waits for an answer first.
    done =
      request.fetch.done ||
      (conversation && !upstream.conversational && !request.fetch.depth && (await nextIsDone(request.rest)))
  } catch (error) {
    return misunderstood(client, gate, operation, error)
  }
  const { fetch: asked, capabilities, raw, rest } = request
  const wanted = reading({ operation, action: 'fetch' }, asked)
  // The limit of bridging: rounds of haves over HTTP are requests of their own, over SSH one conversation.
  if (conversation !== upstream.conversational && !done) {
    const why = 'to fetch from this Git host your git must speak protocol version 2: git -c protocol.version=2 fetch'
    return refuse(client, await gate.refuse(client, wanted, 'protocol', why))
  }
  let body = Readable.from([raw], { objectMode: false })
  if (conversation && upstream.conversational) {
    rest.unshift(raw)
    body = rest
  } else if (!asked.done && done) body = Readable.from([raw, line('done')], { objectMode: false })
  return one(client, host, {
    wanted,
    body: () => body,
    bytes: raw.length,
    format: formatOf(capabilities),
    asked,
    withTags: capabilities.has('include-tag'),
    sideband: sidebandOf(capabilities),
  })
}

async function nextIsDone(rest: Readable): Promise<boolean> {
  const packet = await new PacketReader(rest, { limit: 1024 }).read()
  return packet?.kind === 'data' && packet.payload.toString('latin1').trimEnd() === 'done'
}

// ---- one request and its answer ----

interface Exchange {
  readonly wanted: Reading
  /** What goes to the host; under a window for some refs with a view of them. */
  body(view: View | undefined): Readable
  /** How much the client said. */
  readonly bytes: number
  readonly format: ObjectFormat
  /** undefined: it asks for the refs, not for objects. */
  readonly asked: Fetch | undefined
  /** Tags are to come along that cannot be taken out of the request. */
  readonly withTags?: boolean
  readonly sideband: Sideband
  /** Asked first; undefined: the host is to be asked. */
  readonly reuse?: (session: Session) => Promise<Given | undefined>
}

async function one(client: Client, host: Host, exchange: Exchange): Promise<Served> {
  const { gate, upstream, bypasses } = host
  const { wanted, sideband, asked } = exchange
  const session = await gate.open(client, wanted)
  if ('kind' in session) return refuse(client, asked ? askingToRead(client, session, asked) : session)
  session.carry('in', exchange.bytes)
  const pack = asked ? watchPack(client.protocol) : undefined
  const say = (refused: Refusal) => (pack?.started ? inPack(refused, sideband) : errPacket(refused))
  let counted = false
  let spent: Refusal | undefined
  try {
    let view = wanted.viewFor(session, !asked && gate.showsAll(client))
    const beyond = view && asked && (await lookAt(asked, client, host, session, view, exchange))
    if (beyond && gate.letsThrough(session, beyond)) view = wanted.viewFor(session)
    else if (beyond) {
      await session.end({ result: 'refused', reason: beyond.sentence })
      return refuse(client, beyond)
    }
    const listing = asked ? undefined : bypasses?.listing(session)
    const given = await exchange.reuse?.(session)
    session.reuse = given?.reused
    const told = given?.answer ?? (await upstream.exchange(exchange.body(view), session.signal))
    const answer = view && !asked ? hideListed(told, exchange.format, noting(view, host.tips)) : told
    const how = await relay(answer, client.response, session, {
      framed: true,
      ...listing,
      ...pack,
      // A use is a pack delivered: counted at its first byte, so that neither a listing nor a round of negotiation is one.
      before: () => {
        if (!pack?.started || counted) return undefined
        counted = true
        if (session.grants.every(grant => grant.uses === undefined)) return undefined
        return gate.again(session, { consume: true }).then(refused => {
          spent = refused
          return !refused
        })
      },
      insert: () => (pack?.started && sideband ? remoteText(notice(session), 2, sideband) : undefined),
    })
    if (spent) {
      client.response.write(errPacket(spent))
      await session.end({ result: 'refused', reason: spent.sentence })
      return { status: 128, operation: wanted.operation }
    }
    if (how === 'stopped') return await stopped(client, session, say)
    void session.end({ result: 'ok', ...(pack?.objects !== undefined && { objects: pack.objects }) })
    return { status: 0, operation: wanted.operation }
  } catch (error) {
    return await failed(client, session, error, say)
  }
}

/**
 * Looks at what is wanted under a window for some refs, by what the client was told of in this conversation or, where that
 * is not enough, by what the host tells now; and holds the fetch to it.
 */
async function lookAt(
  asked: Fetch,
  client: Client,
  { upstream, tips: told, hostOf }: Host,
  session: Session,
  view: View,
  { wanted, format, withTags }: Exchange,
): Promise<Refusal | undefined> {
  const { repository, service, protocol, part } = client
  const no = (why: string) =>
    askingToRead(client, refusal(session.operation, 'ref-refused', repository, service, why), asked)
  if (withTags) return no('tags are not sent along under a window for some refs')
  let tips = stillShown(told, view)
  let why = whyBeyond(asked, tips)
  // In a conversation of protocol 0 and 1 the advertisement is all there is.
  if (why !== undefined && (part === 'exchange' || protocol === 2)) {
    upstream.release()
    const target = { ...targetOf(client, session.operation), protocol: 2, stateless: true } as const
    tips = await readableTips(hostOf(repository)(target), session, view, format)
    why = whyBeyond(asked, tips)
  }
  if (why !== undefined) return no(why)
  wanted.hold(heldTo(asked, tips))
  return undefined
}

/** A refused want, with the line that asks for it. */
function askingToRead({ repository }: Client, refused: Refusal, { wantRefs }: Fetch): Refusal {
  return refused.code === 'ref-refused' ? { ...refused, hint: askToRead(repository, wantRefs) } : refused
}

// A fatal error on band 3 is git's own way out of a pack; without side-band there is none but to stop.
function inPack(refused: Refusal, sideband: Sideband): Buffer {
  return sideband ? band(3, Buffer.from(`${lines(refused).join('\n')}\n`), sideband) : Buffer.alloc(0)
}

async function misunderstood(client: Client, gate: Gate, operation: string, error: unknown): Promise<Served> {
  const why = error instanceof ProtocolError ? error.message : 'the request broke off'
  return refuse(client, await gate.refuse(client, reading({ operation, action: 'list' }), 'protocol', why))
}
