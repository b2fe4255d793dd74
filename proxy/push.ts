import type { Readable } from 'node:stream'
import { newId } from '../audit/id.ts'
import type { AskedUpdate, DoneUpdate } from '../audit/record.ts'
import { advertise, fault, PUSH_ACTIONS, refuse, type Served, targetOf } from './advertise.ts'
import { askFor } from './asking.ts'
import type { Bypasses } from './bypass.ts'
import type { Client } from './client.ts'
import type { Gate } from './gate.ts'
import { TRAILER_BYTES } from './git/objectid.ts'
import { peekPackHeader } from './git/pack.ts'
import { ProtocolError } from './git/pktline.ts'
import { type Commands, CommandsRefused, readCommands } from './git/refupdate.ts'
import { ReportReader, report } from './git/report.ts'
import { remoteText, sidebandOf } from './git/sideband.ts'
import { heldPack } from './heldpack.ts'
import { type Findings, type Judgement, judge } from './judge.ts'
import { notice } from './notice.ts'
import { PathFindings, Proof, type ProofOptions } from './proof.ts'
import { lines, type Refusal, refusal } from './refusal.ts'
import { relay } from './relay.ts'
import type { Session } from './session.ts'
import type { Upstream } from './upstream/upstream.ts'
import type { Wanted } from './wanted.ts'

export interface PushOptions extends ProofOptions {
  readonly gate: Gate
  /** Most ref updates in one push. */
  readonly commands: number
  readonly bypasses?: Bypasses | undefined
}

/** What is read and thrown away of a push that was refused, so that git gets to its answer. Beyond, the connection is closed. */
const DRAIN_BYTES_MAX = 4 * 2 ** 30
const DRAIN_TIME_MAX = 10 * 60_000

/**
 * A push: its commands judged one by one before anything goes to the host, its last bytes held back until the grant has
 * been used again, its outcome read from the host's own report.
 */
export async function push(client: Client, options: PushOptions): Promise<Served> {
  const operation = newId('op')
  const upstream = options.hostOf(client.repository)(targetOf(client, operation))
  try {
    if (client.part !== 'exchange') {
      const listed = await advertise(client, options, upstream)
      if (listed.status !== 0 || client.part === 'advertise') return listed
    }
    return await receive(client, upstream, operation, options)
  } finally {
    upstream.close()
  }
}

async function receive(client: Client, upstream: Upstream, operation: string, options: PushOptions): Promise<Served> {
  const { gate } = options
  let commands: Commands
  let objects: number | undefined
  try {
    commands = await readCommands(client.request, { commands: options.commands })
    objects = await announced(commands)
  } catch (error) {
    return misunderstood(client, gate, operation, error)
  }
  // git asks over HTTP whether it may push at all before it sends much; over SSH it says that there is nothing to do.
  if (commands.probe) return { status: 0, operation }

  const findings = new PathFindings()
  const wanted = pushing(commands, operation, findings)
  const session = await gate.open(client, wanted)
  if ('kind' in session) {
    // Without a window there is nothing to be said of each ref.
    if (session.code !== 'ref-refused') return sayNo(client, commands, session, new Map())
    const lacking = commands.updates.filter(({ ref }) => wanted.reasons.has(ref))
    const hint = askFor(client.repository, lacking)
    return sayNo(client, commands, { ...session, hint }, wanted.reasons)
  }
  return land(client, upstream, { commands, objects, findings }, wanted, session, options)
}

/** How many objects the pack says it has; what stands in a pack's place and is none, a second list of commands, is refused. */
async function announced(commands: Commands): Promise<number | undefined> {
  if (!commands.hasPack) return undefined
  try {
    return (await peekPackHeader(commands.pack)).objects
  } catch (error) {
    throw error instanceof ProtocolError ? new CommandsRefused(commands, new Map(), error) : error
  }
}

interface Understood {
  readonly commands: Commands
  readonly objects: number | undefined
  readonly findings: PathFindings
}

/** The push was let in: relays it to the host, and the host's report to the client. */
async function land(
  client: Client,
  upstream: Upstream,
  { commands, objects, findings }: Understood,
  wanted: Pushing,
  session: Session,
  options: PushOptions,
): Promise<Served> {
  const proof = new Proof(client, session, commands, findings, options)
  let heldBack: Refusal | undefined
  const enforced = (refused: Refusal | undefined) =>
    refused && options.gate.letsThrough(session, refused) ? undefined : refused
  const body = heldPack({
    commands: commands.raw,
    hasPack: commands.hasPack,
    pack: commands.pack,
    trailerBytes: TRAILER_BYTES[commands.objectFormat],
    endsBy: client.part === 'conversation' ? 'checksum' : 'end',
    onBytes: chunk => {
      session.carry('in', chunk.length)
      return proof.reads ? proof.read(chunk) : undefined
    },
    release: async whole => {
      heldBack = whole
        ? (enforced(await proof.verdict()) ?? (await letGo(session, options)) ?? enforced(await proof.stillShown()))
        : refusal(
            session.operation,
            'protocol',
            client.repository,
            'receive-pack',
            'the pack does not end where it says',
          )
      return heldBack === undefined && session.settle()
    },
  })
  const reported = new ReportReader(commands)
  const sideband = sidebandOf(commands.capabilities)
  let why: unknown
  try {
    const answer = await upstream.exchange(body, session.signal)
    const how = await relay(answer, client.response, session, {
      framed: true,
      tap: chunk => reported.write(chunk),
      // What a host says of a pack it was not given the end of is not the reason.
      before: () => (heldBack ? Promise.resolve(false) : undefined),
      insert: () => sideband && remoteText(notice(session), 2, sideband),
    })
    const unreported = asksReport(commands) && reported.result().state === 'unknown'
    if (heldBack) why = heldBack
    else if (how === 'ended' && unreported) why = new Error('the host ended without a report')
    else if (how === 'ended') {
      await session.end({ ...outcome(commands, wanted.updates, reported), ...(objects !== undefined && { objects }) })
      return { status: 0, operation: session.operation }
    }
  } catch (error) {
    why = heldBack ?? error
  } finally {
    // Before anything is said: whoever answers reads the rest of the pack away, and the body would take it, or stop it.
    body.destroy()
    await proof.close()
  }
  const { updates } = outcome(commands, wanted.updates, reported)
  return broken(client, commands, session, why, session.settled ? { updates } : {})
}

/** The last question; others learn meanwhile that its refs are about to move. */
async function letGo(session: Session, { gate, bypasses }: PushOptions): Promise<Refusal | undefined> {
  const [refused] = await Promise.all([gate.again(session, { consume: true }), bypasses?.pushing(session)])
  return refused
}

interface Pushing extends Wanted {
  readonly updates: readonly AskedUpdate[]
  /** Why refs were refused, as judged last. */
  readonly reasons: ReadonlyMap<string, string>
}

/** What a push wants: each of its updates allowed by a grant. */
function pushing(commands: Commands, operation: string, findings?: Findings): Pushing {
  let judgement = judge(commands.updates, [])
  /** The last by which it was covered: a window that its own push used up covers nothing any more. */
  let covered: Judgement | undefined
  return {
    operation,
    action: 'push',
    actions: PUSH_ACTIONS,
    covers: live => {
      judgement = judge(commands.updates, live, findings)
      if (judgement.covering) covered = judgement
      return judgement.covering
    },
    explain: () => {
      const [first] = judgement.reasons
      return first && `${first[0]}: ${first[1]}`
    },
    get updates() {
      return (covered ?? judgement).asked
    },
    get reasons() {
      return judgement.reasons
    },
    ...(commands.pushOptions.length > 0 && { pushOptions: commands.pushOptions }),
  }
}

/** What the host made of it, by its own report. Without a report nothing is called a success. */
function outcome(commands: Commands, asked: readonly AskedUpdate[], reported: ReportReader) {
  const { state, refs, unpack } = reported.result()
  const updates: DoneUpdate[] = asked.map(update => {
    const said = refs.get(update.ref)
    return { ...update, result: said?.result ?? 'unknown', ...(said?.reason && { reason: said.reason }) }
  })
  const rejected = updates.find(update => update.result === 'rejected')
  if (rejected) {
    return {
      result: 'failed' as const,
      reason: `the host rejected ${rejected.ref}: ${rejected.reason ?? unpack}`,
      updates,
    }
  }
  if (asksReport(commands) && state === 'unknown')
    return { result: 'failed' as const, reason: 'the host gave no report', updates }
  return { result: 'ok' as const, updates }
}

function asksReport({ capabilities }: Commands): boolean {
  return capabilities.has('report-status') || capabilities.has('report-status-v2')
}

/**
 * A push that ended before its report: cut, held back, left by the client, or dropped by the host. `known`: what became
 * of its refs, where the host had all of it.
 */
async function broken(
  client: Client,
  commands: Commands,
  session: Session,
  why: unknown,
  known: { readonly updates?: readonly DoneUpdate[] } = {},
): Promise<Served> {
  const { operation, signal, cutBy } = session
  if (signal.aborted && !cutBy) {
    await session.end({ result: 'failed', reason: 'the client went away', ...known })
    return { status: 128, operation }
  }
  const isRefusal = (value: unknown): value is Refusal => (value as Refusal | undefined)?.kind === 'refusal'
  const refused = cutBy ?? (isRefusal(why) ? why : undefined)
  if (refused) {
    const result = cutBy || refused.code === 'no-grant' ? 'cut' : 'refused'
    await session.end({ result, reason: refused.sentence, ...known })
    return sayNo(client, commands, session.settled ? orLanded(refused) : refused, refused.byRef ?? new Map())
  }
  const { message, detail } = fault(why)
  await session.end({ result: 'failed', reason: detail, ...known })
  const failure = refusal(operation, 'upstream', client.repository, 'receive-pack', message)
  return sayNo(client, commands, session.settled ? orLanded(failure) : failure, new Map())
}

function orLanded(refused: Refusal): Refusal {
  return { ...refused, sentence: `${refused.sentence}, before it had reported: fetch to see whether the push landed` }
}

/** The bytes were not understood, or name a ref nobody may write. */
async function misunderstood(client: Client, gate: Gate, operation: string, error: unknown): Promise<Served> {
  const commands = error instanceof CommandsRefused ? error.commands : undefined
  const wanted: Wanted = commands
    ? pushing(commands, operation)
    : { operation, action: 'push', actions: PUSH_ACTIONS, covers: () => undefined }
  const why = error instanceof ProtocolError ? error.message : 'the request broke off'
  const namesRefs = error instanceof CommandsRefused && error.reasons.size > 0
  const refused = await gate.refuse(client, wanted, namesRefs ? 'ref-refused' : 'protocol', why)
  if (error instanceof CommandsRefused) return sayNo(client, error.commands, refused, error.reasons)
  return refuse(client, refused)
}

/** Tells every ref its reason, in the form git prints as `! [remote rejected] main -> main (reason)`. */
async function sayNo(
  client: Client,
  commands: Commands,
  refused: Refusal,
  reasons: ReadonlyMap<string, string>,
): Promise<Served> {
  const rest = reasons.size > 0 ? 'refused with the others of this push' : refused.sentence
  const told = report({
    capabilities: commands.capabilities,
    text: lines(refused).join('\n'),
    refs: commands.updates.map(({ ref }) => ({ ref, reason: reasons.get(ref) ?? rest })),
  })
  // Drained before the answer over HTTP: git reports "RPC failed" when it comes before its request is read. After it over
  // SSH, where git keeps its side open until it has the report.
  if (client.part === 'conversation') {
    client.response.write(told)
    await drain(commands.pack, client.gone)
  } else if (await drain(commands.pack, client.gone)) client.response.write(told)
  return { status: 1, operation: refused.operation }
}

/** Reads and throws away; false when it was too much or the client is gone. */
function drain(rest: Readable, gone: AbortSignal): Promise<boolean> {
  return new Promise(resolve => {
    let bytes = 0
    const done = (whole: boolean) => {
      clearTimeout(timer)
      rest.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose)
      gone.removeEventListener('abort', onClose)
      rest.on('error', () => {})
      resolve(whole)
    }
    const onData = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > DRAIN_BYTES_MAX) done(false)
    }
    const onEnd = () => done(true)
    const onClose = () => done(rest.readableEnded)
    const timer = setTimeout(() => done(false), DRAIN_TIME_MAX)
    if (rest.readableEnded) return done(true)
    if (rest.destroyed || gone.aborted) return done(false)
    rest.on('data', onData).once('end', onEnd).once('close', onClose).once('error', onClose)
    gone.addEventListener('abort', onClose, { once: true })
    rest.resume()
  })
}
