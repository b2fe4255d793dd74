import { newId } from '../audit/id.ts'
import type { Approval, Emit, OperationRefused, OperationStart } from '../audit/record.ts'
import type { Answer, Ask, CutNotice, LiveGrant } from '../grant/grant.ts'
import type { AfterRefusal } from './autorequest.ts'
import { isFor, whyNotHere } from './bounds.ts'
import { bytesLeft, carrying, spending, type Told } from './charge.ts'
import type { Client } from './client.ts'
import { onRecord, type Refusal, type RefusalCode, refusal } from './refusal.ts'
import { Session } from './session.ts'
import { stepOf, type Trace, type Tracing, traceBy } from './trace.ts'
import type { Wanted } from './wanted.ts'

type Judged =
  | {
      readonly kind: 'live'
      readonly grants: readonly LiveGrant[]
      readonly now: number
      /** It would be refused, were the repository not only observed. */
      readonly instead?: Refusal
    }
  | Refusal

export interface GateOptions {
  ask(ask: Ask): Promise<Answer>
  readonly emit: Emit
  /** Milliseconds Redis may stay silent before everything that runs is cut. */
  readonly redisSilence: number
  /** Milliseconds between two sweeps over what runs: catches what publish/subscribe lost. */
  readonly sweepEvery: number
  /** Why nothing is let in from an address, see `followNetworks`. */
  lockedOut?(address: string): string | undefined
  /** Whether a refusal for this reason is only put on record in this repository, see `followObserved`. */
  observes?(repository: string, code: RefusalCode): boolean
  onStart?(session: Session): void
  onEnd?(session: Session): void
  onRefused?(refused: OperationRefused): void
  /** What follows where there is no window and the operation may wait, see `autoRequests`. */
  readonly afterRefusal?: AfterRefusal
  /** Absent: nobody wants to see where time goes. */
  readonly tracing?: Tracing | undefined
}

/**
 * The gate: an attempt meets a grant and becomes a session. Nothing goes to a host but through `open`, and nothing that
 * runs outlives the grants it runs under.
 */
export class Gate {
  readonly #options: GateOptions
  readonly #running = new Map<Session, Wanted>()
  readonly #timers = new Map<Session, NodeJS.Timeout>()
  readonly #sweep: NodeJS.Timeout
  /** Clients being served, between two sessions of a conversation too. */
  readonly #attended = new Set<Client>()
  #heard = performance.now()
  #closing: 'draining' | 'closed' | undefined
  readonly #stopping = new AbortController()
  #emptied: (() => void) | undefined

  constructor(options: GateOptions) {
    this.#options = options
    this.#sweep = setInterval(() => this.#sweepAll(), options.sweepEvery)
    this.#sweep.unref()
  }

  get running(): number {
    return this.#running.size
  }

  sessions(): Iterable<Session> {
    return this.#running.keys()
  }

  /** Serves a client. One that came before the gate began to close may finish what it has begun within its grace. */
  async attend<T>(client: Client, serve: () => Promise<T>): Promise<T> {
    if (!this.#closing) this.#attended.add(client)
    try {
      return await serve()
    } finally {
      this.#attended.delete(client)
      this.#checkEmptied()
    }
  }

  /**
   * Asks for the grants, writes the start record and opens the session; or says no, and that is recorded too. When this
   * gives a session its start record is durable.
   */
  async open(client: Client, wanted: Wanted): Promise<Session | Refusal> {
    if (this.#closing === 'closed' || (this.#closing && !this.#attended.has(client)))
      return this.refuse(client, wanted, 'draining')
    const trace = this.#options.tracing?.begin(client, wanted)
    const judged = await stepOf(trace, 'gate', () => this.#judgeOrWait(client, wanted))
    if (judged.kind === 'refusal') return this.#record(client, wanted, judged, trace)

    const under = underOf(judged.grants)
    const start: OperationStart = {
      kind: 'operation.start',
      operation: wanted.operation,
      principal: client.caller.principal,
      repository: client.repository,
      service: client.service,
      action: wanted.action,
      identity: client.caller.identity,
      origin: client.caller.origin,
      protocol: client.protocol,
      grants: judged.grants.map(grant => grant.id),
      ...(under && { under }),
      ...(wanted.updates && { updates: wanted.updates }),
      ...(wanted.fetch && { fetch: wanted.fetch }),
      ...(wanted.pushOptions?.length && { pushOptions: wanted.pushOptions }),
      ...(judged.instead && { observed: onRecord(judged.instead) }),
    }
    const session = new Session({
      client,
      start,
      grants: judged.grants,
      emit: this.#options.emit,
      trace,
      onBytesOver: over => this.#onBytesOver(over),
      onEnd: ended => this.#forget(ended),
    })
    session.instead = judged.instead
    if (trace) traceBy(session.signal, trace)
    // Registered before the record is written: a revocation that comes in between must find it.
    this.#running.set(session, wanted)
    this.#watchEnd(session, judged.now)
    session.bytesMax = bytesLeft(wanted, session.grants)
    try {
      await stepOf(trace, 'record', () => this.#options.emit(start))
    } catch {
      this.#forget(session)
      return this.#record(client, wanted, this.#no(client, wanted, 'ledger-unreachable'), trace)
    }
    this.#options.onStart?.(session)
    return session
  }

  /**
   * Asks again for a session that runs, and refreshes its grants. With `consume`, counts one use of the grants that count
   * uses, at the moment a pack is delivered or a push lands.
   */
  async again(session: Session, { consume = false } = {}): Promise<Refusal | undefined> {
    const wanted = this.#running.get(session)
    if (!wanted || session.signal.aborted) return session.cutBy ?? this.#no(session.client, wanted, 'cut')
    const told = carrying(wanted, session)
    const judge = () =>
      this.#judge(session.client, wanted, { ...(consume && spending(wanted, session.grants)), ...told })
    // Sweeps ask every second, which nobody waits for.
    const judged = consume
      ? await stepOf(session.trace, wanted.action === 'push' ? 'held tail' : 'gate', judge)
      : await judge()
    if (judged.kind === 'refusal') {
      // Told again next time: rather counted twice than not at all.
      if (judged.code === 'redis-unreachable' || judged.code === 'unconfirmed')
        session.bytesTold -= told.carried?.bytes ?? 0
      return judged
    }
    session.grants = judged.grants
    session.instead ??= judged.instead
    this.#watchEnd(session, judged.now)
    session.bytesMax = session.bytesTold + bytesLeft(wanted, session.grants)
    return undefined
  }

  /** Whether what would be refused of a session that runs is only put on record: then it goes on, and its end says so. */
  letsThrough(session: Session, refused: Refusal): boolean {
    if (!this.#isObserved(session.client, refused.code)) return false
    session.instead ??= refused
    return true
  }

  /** Whether everything there is to see is shown, whatever the grants name: nothing of it would be refused. */
  showsAll(client: Client): boolean {
    return this.#isObserved(client, 'ref-refused')
  }

  /** Refuses for a reason the grants have nothing to do with, and records it. */
  refuse(client: Client, wanted: Wanted, code: RefusalCode, detail?: string): Promise<Refusal> {
    return this.#record(client, wanted, this.#no(client, wanted, code, detail))
  }

  /** A principal's standing changed: whatever of theirs runs is judged again, at once. */
  onCut(notice: CutNotice): void {
    if (notice.operation !== undefined) {
      this.cut(notice.operation, `it was ended by an administrator: ${notice.reason}`)
      return
    }
    for (const session of this.#running.keys()) {
      if (session.client.caller.principal === notice.principal) void this.#recheck(session, notice.reason)
    }
  }

  /** Everything that runs is judged again: something may have been missed. */
  recheck(): void {
    for (const session of this.#running.keys()) void this.#recheck(session, '')
  }

  /** Cuts one operation by its id; says whether it ran here. */
  cut(operation: string, reason: string): boolean {
    for (const session of this.#running.keys()) {
      if (session.operation !== operation) continue
      session.cut(this.#no(session.client, this.#running.get(session), 'cut', reason))
      return true
    }
    return false
  }

  /** Lets nothing new in, waits up to `grace` milliseconds for what runs, then cuts the rest and waits for their ends. */
  async close(grace: number): Promise<void> {
    this.#closing = 'draining'
    this.#stopping.abort()
    if (this.#running.size > 0 || this.#attended.size > 0) {
      const emptied = new Promise<void>(resolve => {
        this.#emptied = resolve
      })
      const timer = setTimeout(() => {
        this.#closing = 'closed'
        // Whoever is between two sessions has nothing to lose but the next one.
        this.#attended.clear()
        this.#checkEmptied()
        for (const session of this.#running.keys()) {
          session.cut(this.#no(session.client, this.#running.get(session), 'cut', 'this gate is being stopped'))
        }
      }, grace)
      await emptied
      clearTimeout(timer)
    }
    this.#closing = 'closed'
    clearInterval(this.#sweep)
  }

  /** Judges; where there is no window and one may be waited for, again once it is decided. */
  async #judgeOrWait(client: Client, wanted: Wanted): Promise<Judged> {
    const judged = await this.#judge(client, wanted)
    const { afterRefusal } = this.#options
    if (judged.kind !== 'refusal' || judged.code !== 'no-grant' || !wanted.mayWait || !afterRefusal) return judged
    const after = await afterRefusal(client, judged, this.#stopping.signal)
    if (after !== 'decided') return after
    return this.#closing === 'closed' ? this.#no(client, wanted, 'draining') : this.#judge(client, wanted)
  }

  /** What the policy would refuse is let through where it is only observed. */
  async #judge(client: Client, wanted: Wanted, told: Told = {}): Promise<Judged> {
    const judged = await this.#judgeStrictly(client, wanted, told)
    if (judged.kind !== 'refusal' || !this.#isObserved(client, judged.code)) return judged
    return { kind: 'live', grants: [], now: 0, instead: judged }
  }

  #isObserved({ caller, repository }: Client, code: RefusalCode): boolean {
    // A credential that was made for one window is worth nothing beyond it.
    return caller.request === undefined && this.#options.observes?.(repository, code) === true
  }

  async #judgeStrictly(client: Client, wanted: Wanted, told: Told): Promise<Judged> {
    const { caller, repository } = client
    if (caller.stands?.() === false) return this.#no(client, wanted, 'barred')
    const lockedOut = this.#options.lockedOut?.(caller.origin.address)
    if (lockedOut !== undefined) return this.#no(client, wanted, 'locked', lockedOut)
    let answer: Answer
    try {
      answer = await this.#options.ask({
        principal: caller.principal,
        credentials: caller.credentials,
        repository,
        actions: wanted.actions,
        ...told,
      })
      this.#heard = performance.now()
    } catch {
      return this.#no(client, wanted, 'redis-unreachable')
    }
    switch (answer.kind) {
      case 'live': {
        const own = answer.grants.filter(grant => isFor(grant, caller))
        const elsewhere = own.map(grant => whyNotHere(grant, caller.origin.address, answer.now))
        const here = own.filter((_, index) => elsewhere[index] === undefined)
        const grants = wanted.covers(here)
        if (grants) return { kind: 'live', grants, now: answer.now }
        if (here.length === 0 && own.length > 0) {
          return this.#no(client, wanted, 'not-here', elsewhere[0])
        }
        const why = here.length > 0 ? wanted.explain?.(here) : undefined
        return this.#no(client, wanted, why ? 'ref-refused' : 'no-grant', why)
      }
      case 'locked':
        return this.#no(client, wanted, 'locked', answer.reason)
      case 'barred':
        return this.#no(client, wanted, 'barred')
      case 'spent':
        return this.#no(client, wanted, 'spent')
      case 'unconfirmed':
        return this.#no(client, wanted, 'unconfirmed')
      default:
        return answer satisfies never
    }
  }

  #no(client: Client, wanted: Wanted | undefined, code: RefusalCode, detail?: string): Refusal {
    return refusal(wanted?.operation ?? newId('op'), code, client.repository, client.service, detail)
  }

  async #record(
    client: Client,
    wanted: Wanted,
    refused: Refusal,
    trace: Trace | undefined = this.#options.tracing?.begin(client, wanted),
  ): Promise<Refusal> {
    const record: OperationRefused = {
      kind: 'operation.refused',
      operation: wanted.operation,
      principal: client.caller.principal,
      repository: client.repository,
      service: client.service,
      action: wanted.action,
      identity: client.caller.identity,
      origin: client.caller.origin,
      code: refused.code,
      reason: refused.sentence,
      ...(wanted.updates && { updates: wanted.updates }),
    }
    this.#options.onRefused?.(record)
    // Refused all the same where it cannot be written: there is no access to put on record. Somebody who has waited for
    // the ledger once is not made to wait again.
    const written = stepOf(trace, 'record', () => this.#options.emit(record)).catch(() => {})
    if (refused.code !== 'ledger-unreachable') await written
    trace?.refused(record)
    return refused
  }

  async #recheck(session: Session, reason: string): Promise<void> {
    const refused = await this.again(session)
    if (!refused) return
    // Silence of Redis is judged by the sweep, which knows for how long.
    if (refused.code === 'redis-unreachable') return
    session.cut(this.#no(session.client, this.#running.get(session), 'cut', endSentence(refused, reason)))
  }

  #sweepAll(): void {
    this.recheck()
    if (this.#running.size === 0) {
      this.#heard = performance.now()
      return
    }
    if (performance.now() - this.#heard < this.#options.redisSilence) return
    for (const session of this.#running.keys()) {
      session.cut(
        this.#no(
          session.client,
          this.#running.get(session),
          'cut',
          'the gate can no longer see whether your window is open',
        ),
      )
    }
  }

  /** Asks again when the first of its grants ends: another may cover it, or the end was moved. Redis's clock decides. */
  #watchEnd(session: Session, now: number): void {
    clearTimeout(this.#timers.get(session))
    const byEnd = [...session.grants].sort((a, b) => a.ends - b.ends)
    const [first, last] = [byEnd[0], byEnd.at(-1)]
    if (!first || !last) return
    session.window = { grant: last.id, until: performance.now() + last.ends - now }
    const wait = Math.min(Math.max(first.ends - now, 0) + 1, MAX_TIMER)
    const timer = setTimeout(() => void this.#recheck(session, ''), wait)
    timer.unref()
    this.#timers.set(session, timer)
  }

  #onBytesOver(session: Session): void {
    session.bytesMax = Number.POSITIVE_INFINITY
    const most = session.grants.flatMap(({ bounds }) => bounds?.bytes ?? [])
    const why = `the ${Math.min(...most).toLocaleString('en')} bytes of your window are used up`
    const { operation, client } = session
    if (this.letsThrough(session, refusal(operation, 'spent', client.repository, client.service, why))) return
    session.cut(this.#no(client, this.#running.get(session), 'cut', why))
  }

  /** The bytes of its last moment, which nobody waits for. */
  #tellBytes(session: Session): void {
    const wanted = this.#running.get(session)
    const told = wanted ? carrying(wanted, session) : {}
    if (!wanted || !told.carried) return
    const { caller, repository } = session.client
    const { principal, credentials } = caller
    this.#options.ask({ principal, credentials, repository, actions: wanted.actions, ...told }).catch(() => {})
  }

  #forget(session: Session): void {
    this.#tellBytes(session)
    clearTimeout(this.#timers.get(session))
    this.#timers.delete(session)
    if (!this.#running.delete(session)) return
    if (session.outcome) this.#options.onEnd?.(session)
    this.#checkEmptied()
  }

  #checkEmptied(): void {
    if (this.#running.size === 0 && this.#attended.size === 0) this.#emptied?.()
  }
}

// setTimeout's own bound; a longer wait would fire at once.
const MAX_TIMER = 2 ** 31 - 1

/** What is known of the requests these grants answer; undefined where none does. */
function underOf(grants: readonly LiveGrant[]): Approval[] | undefined {
  let under: Approval[] | undefined
  for (const { id, request, approvers, policy } of grants) {
    if (request === undefined) continue
    under ??= []
    under.push({ grant: id, request, ...(approvers && { approvers }), ...(policy !== undefined && { policy }) })
  }
  return under
}

function endSentence(refused: Refusal, reason: string): string {
  if (refused.code !== 'no-grant' && refused.code !== 'ref-refused') return refused.sentence
  return reason ? `your window was closed: ${reason}` : 'your window has ended'
}
