import { Readable } from 'node:stream'
import { newId } from '../audit/id.ts'
import type { FetchDetail, OperationStart } from '../audit/record.ts'
import { advertise, FETCH_ACTIONS, failed, refuse, type Served, stopped, targetOf } from './advertise.ts'
import type { Client } from './client.ts'
import type { Gate, Wanted } from './gate.ts'
import { watchPack } from './git/packwatch.ts'
import { line, PacketReader, ProtocolError } from './git/pktline.ts'
import { band, remoteText, type Sideband, sidebandOf } from './git/sideband.ts'
import {
  type Command,
  commandReader,
  type Fetch,
  type FetchRequest,
  readCommand,
  readFetchRequest,
} from './git/uploadpack.ts'
import type { HostOf } from './hosts.ts'
import { notice } from './notice.ts'
import { errPacket, lines, type Refusal } from './refusal.ts'
import { relay } from './relay.ts'
import { type Releasable, releasable } from './reuse/releasable.ts'
import type { Given, Reuse } from './reuse/reuse.ts'
import type { Session } from './session.ts'
import type { Upstream } from './upstream/upstream.ts'

export interface FetchOptions {
  readonly gate: Gate
  readonly hostOf: HostOf
  /** Answers for many who ask for the same; absent: the host is asked by each. */
  readonly reuse?: Reuse | undefined
}

/**
 * A clone, fetch or ls-remote. Protocol 2 is a row of commands, each checked and recorded for what it is; protocols 0 and
 * 1 are one request, or over SSH one conversation.
 */
export async function fetch(client: Client, { gate, hostOf, reuse }: FetchOptions): Promise<Served> {
  const operation = newId('op')
  const upstream = releasable(() => hostOf(client.repository)(targetOf(client, operation)))
  try {
    if (client.part !== 'exchange') {
      const listed = await advertise(client, gate, upstream)
      if (listed.status !== 0 || client.part === 'advertise') return listed
    }
    return client.protocol === 2
      ? await commands(client, gate, upstream, operation, reuse)
      : await negotiate(client, gate, upstream, operation)
  } finally {
    upstream.close()
  }
}

// ---- protocol 2 ----

async function commands(
  client: Client,
  gate: Gate,
  upstream: Releasable,
  first: string,
  reuse: Reuse | undefined,
): Promise<Served> {
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
      return refuse(client, await gate.refuse(client, reading(operation, undefined), 'protocol', why))
    }
    const fetching = command.command === 'fetch' ? command : undefined
    const asked = fetching?.fetch
    const served = await one(client, gate, upstream, {
      wanted: reading(operation, asked),
      body: Readable.from([command.raw], { objectMode: false }),
      bytes: command.raw.length,
      // Every answer of protocol 2 that carries a pack carries it on side-band.
      sideband: asked && 'side-band-64k',
      ...(fetching &&
        reuse && {
          reuse: session => reuse.exchange({ client, session, command: fetching, release: upstream.release }),
        }),
    })
    if (served.status !== 0 || client.part === 'exchange') return served
  }
}

// ---- protocols 0 and 1 ----

async function negotiate(client: Client, gate: Gate, upstream: Upstream, operation: string): Promise<Served> {
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
  const wanted = reading(operation, asked)
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
  return one(client, gate, upstream, {
    wanted,
    body,
    bytes: raw.length,
    sideband: sidebandOf(capabilities),
  })
}

async function nextIsDone(rest: Readable): Promise<boolean> {
  const packet = await new PacketReader(rest, { limit: 1024 }).read()
  return packet?.kind === 'data' && packet.payload.toString('latin1').trimEnd() === 'done'
}

// ---- one request and its answer ----

interface Exchange {
  readonly wanted: Wanted
  readonly body: Readable
  /** How much the client said. */
  readonly bytes: number
  readonly sideband: Sideband
  /** Asked first; undefined: the host is to be asked. */
  readonly reuse?: (session: Session) => Promise<Given | undefined>
}

async function one(client: Client, gate: Gate, upstream: Upstream, exchange: Exchange): Promise<Served> {
  const { wanted, sideband } = exchange
  const session = await gate.open(client, wanted)
  if ('kind' in session) return refuse(client, session)
  session.bytesIn = exchange.bytes
  const pack = wanted.action === 'fetch' ? watchPack(client.protocol) : undefined
  const say = (refused: Refusal) => (pack?.started ? inPack(refused, sideband) : errPacket(refused))
  let counted = false
  let spent: Refusal | undefined
  try {
    const given = await exchange.reuse?.(session)
    session.reuse = given?.reused
    const answer = given?.answer ?? (await upstream.exchange(exchange.body, session.signal))
    const how = await relay(answer, client.response, session, {
      framed: true,
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

// A fatal error on band 3 is git's own way out of a pack; without side-band there is none but to stop.
function inPack(refused: Refusal, sideband: Sideband): Buffer {
  return sideband ? band(3, Buffer.from(`${lines(refused).join('\n')}\n`), sideband) : Buffer.alloc(0)
}

function reading(operation: string, asked: Fetch | undefined): Wanted {
  const action: OperationStart['action'] = asked ? 'fetch' : 'list'
  return {
    operation,
    action,
    actions: FETCH_ACTIONS,
    covers: live => (live.length > 0 ? live : undefined),
    ...(asked && { fetch: detail(asked) }),
  }
}

function detail({ wants, wantRefs, haves, depth, filter, kind }: Fetch): FetchDetail {
  return {
    wants: wants.length + wantRefs.length,
    haves,
    kind,
    ...(depth !== undefined && { depth }),
    ...(filter !== undefined && { filter }),
  }
}

async function misunderstood(client: Client, gate: Gate, operation: string, error: unknown): Promise<Served> {
  const why = error instanceof ProtocolError ? error.message : 'the request broke off'
  return refuse(client, await gate.refuse(client, reading(operation, undefined), 'protocol', why))
}
