import type { LiveGrant } from '../grant/grant.ts'
import { limitsPaths, permits } from '../grant/pattern.ts'
import { targetOf } from './advertise.ts'
import { isForward } from './ancestry.ts'
import { askFor } from './asking.ts'
import type { Client } from './client.ts'
import type { Commands, RefUpdate } from './git/refupdate.ts'
import type { HostOf } from './hosts.ts'
import { Inquiry } from './inquiry.ts'
import { actionOf, type Findings, usableFor } from './judge.ts'
import type { Change } from './pathdiff.ts'
import { type Found, judgePaths, type Limited, limitKey } from './paths.ts'
import { type Incoming, Quarantine, Unproved } from './quarantine.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { Session } from './session.ts'

export interface ProofOptions {
  readonly hostOf: HostOf
  /** Where throwaway repositories may be made. */
  readonly state: string
  /** The largest pack that is looked into. */
  readonly proofBytes: number
}

/** How long a push is held for what has to be shown of it, from its last byte on. */
const VERDICT_MILLISECONDS_MAX = 120_000

const CHANGED = 'your windows changed while it was under way; push again'
const NOT_BY_ONE = 'no window of yours allows all that it changes'

/** What the pack of a push turned out to change; filled by its `Proof`, read by whoever judges the push again. */
export class PathFindings implements Findings {
  #found: ReadonlyMap<string, Found> | undefined

  settle(found: ReadonlyMap<string, Found>): void {
    this.#found = found
  }

  take(other: PathFindings): void {
    this.#found = other.#found
  }

  stays({ ref }: RefUpdate, { bounds }: LiveGrant): boolean | undefined {
    // A window that opened since, with limits nobody held it to, does not count.
    return this.#found && (this.#found.get(ref)?.within.has(limitKey(bounds?.paths ?? [])) ?? false)
  }

  outside({ ref }: RefUpdate): string | undefined {
    const shown = this.changes(ref).map(change => change.shown)
    return shown.length === 0 ? undefined : `your window does not allow to change ${shown.join(', ')}`
  }

  /** Some changes that are outside. */
  changes(ref: string): readonly Change[] {
    return this.#found?.get(ref)?.outside ?? []
  }
}

/**
 * What can only be known of a push by asking: whether a ref it names is a symbolic one (updating it updates its target),
 * whether an update that may only go forward does, and whether one that may only change some paths does. Asked while the
 * pack goes by; answered before its last bytes go.
 */
export class Proof {
  readonly #client: Client
  readonly #session: Session
  readonly #commands: Commands
  readonly #findings: PathFindings
  /** Whether the pack is read so that what it changes can be told. */
  readonly #strict: boolean
  readonly #inquiry: Promise<Inquiry>
  readonly #symbolic: Promise<Map<string, string>>
  readonly #pack: Promise<{ readonly quarantine: Quarantine; readonly incoming: Incoming } | undefined>
  /** The refs that were shown to move forward. */
  readonly #forward = new Set<string>()
  #late = false

  constructor(client: Client, session: Session, commands: Commands, findings: PathFindings, options: ProofOptions) {
    this.#client = client
    this.#session = session
    this.#commands = commands
    this.#findings = findings
    this.#strict = limitedOf(commands.updates, session.grants).length > 0
    this.#inquiry = Inquiry.open(options.hostOf(client.repository), targetOf(client, session.operation), session.signal)
    this.#symbolic = this.#inquiry.then(inquiry => inquiry.symbolic(commands.updates.map(update => update.ref)))
    // Whichever window it turns out to be by: what is not looked at now cannot be later.
    const free = session.grants.filter(grant => !limitsPaths(grant))
    const looks = this.#strict || onlyForward(commands.updates, free).length > 0
    this.#pack = looks && commands.hasPack ? this.#receive(options) : Promise.resolve(undefined)
    // Awaited in `verdict`; a fault that comes before is not an unhandled one.
    for (const promise of [this.#inquiry, this.#symbolic, this.#pack]) promise.catch(() => {})
    this.reads = looks
  }

  /** Whether the bytes of the pack are wanted. */
  readonly reads: boolean

  /** The next bytes of the pack. */
  async read(chunk: Buffer): Promise<void> {
    await (await this.#pack)?.incoming.write(chunk)
  }

  /** Once the whole pack has been read: undefined, or why the push must not land. */
  async verdict(): Promise<Refusal | undefined> {
    const timer = setTimeout(() => void this.#giveUp(), VERDICT_MILLISECONDS_MAX)
    try {
      // The paths first: by which window an update is allowed decides whether it has to go forward.
      return (await this.#checkPaths()) ?? (await this.#checkSymbolic()) ?? (await this.#checkForward())
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * After the last question: undefined where what was shown is all that the windows of now want shown, or why the push must
   * not land. One that let a ref be forced may have ended since, and left one that does not.
   */
  async stillShown(): Promise<Refusal | undefined> {
    const { updates } = this.#commands
    const unseen = updates.find(update => {
      return onlyForward([update], this.#usable(update)).length > 0 && !this.#forward.has(update.ref)
    })
    if (unseen) return this.#unproved(new Unproved(CHANGED), 'for force')
    return await this.#checkSymbolic()
  }

  async close(): Promise<void> {
    const [inquiry, pack] = await Promise.allSettled([this.#inquiry, this.#pack])
    if (inquiry.status === 'fulfilled') inquiry.value.close()
    if (pack.status === 'fulfilled') await pack.value?.quarantine.close()
  }

  async #receive({ state, proofBytes }: ProofOptions) {
    const quarantine = await Quarantine.open(state, this.#commands.objectFormat)
    return { quarantine, incoming: quarantine.receive(proofBytes, { strict: this.#strict }) }
  }

  async #checkPaths(): Promise<Refusal | undefined> {
    // By the windows of now: one that limits nothing may have ended while the pack went by.
    const limited = limitedOf(this.#commands.updates, this.#session.grants)
    const told = new PathFindings()
    try {
      if (limited.length > 0 && !this.#strict) throw new Unproved(CHANGED)
      told.settle(limited.length === 0 ? new Map() : await this.#judge(limited))
    } catch (error) {
      const hint = 'push it in smaller parts, or ask for a window without limits on paths'
      return { ...this.#unproved(error, "against your window's paths"), hint }
    }
    const { grants } = this.#session
    const lacking = limited.filter(({ update }) => actionOf(update, usableFor(update, grants, told)) === undefined)
    if (lacking.length === 0) {
      // Nothing more is looked at: a window with limits that it was not held to can no longer be the one it lands by.
      this.#findings.take(told)
      return undefined
    }
    // Not found out as far as the gate is told: whoever judges the session meanwhile would call its window over.
    const updates = lacking.map(({ update }) => update)
    const byRef = new Map(updates.map(update => [update.ref, told.outside(update) ?? NOT_BY_ONE]))
    const paths = updates.flatMap(({ ref }) => told.changes(ref).map(({ path }) => path))
    const [[ref, why] = []] = byRef
    const hint = askFor(this.#client.repository, updates, paths)
    return { ...this.#no('ref-refused', `${ref}: ${why}`), hint, byRef }
  }

  async #judge(limited: readonly Limited[]): Promise<ReadonlyMap<string, Found>> {
    // A host in a conversation is asked one thing at a time.
    await this.#symbolic
    return judgePaths(await this.#read(), limited, await this.#inquiry)
  }

  async #checkSymbolic(): Promise<Refusal | undefined> {
    try {
      const symbolic = await this.#symbolic
      for (const update of this.#commands.updates) {
        const target = symbolic.get(update.ref)
        if (target === undefined) continue
        const usable = this.#usable(update)
        const action = actionOf(update, usable)
        if (!action || permits(usable, action, target).length === 0) {
          return this.#no('ref-refused', `${update.ref} is a symbolic ref, and what it points to is not in your window`)
        }
      }
      return undefined
    } catch (error) {
      return this.#unproved(error, 'for symbolic refs')
    }
  }

  async #checkForward(): Promise<Refusal | undefined> {
    try {
      for (const update of this.#commands.updates) {
        if (onlyForward([update], this.#usable(update)).length === 0) continue
        const { ref, old, new: tip } = update
        if (!(await isForward(await this.#read(), old, tip, () => this.#inquiry))) {
          return this.#no(
            'ref-refused',
            `${ref} would be moved by force, and your window allows only to move it forward`,
          )
        }
        this.#forward.add(ref)
      }
      return undefined
    } catch (error) {
      return this.#unproved(error, 'for force')
    }
  }

  #usable(update: RefUpdate): readonly LiveGrant[] {
    return usableFor(update, this.#session.grants, this.#findings)
  }

  /** The quarantine with the whole pack in it. */
  async #read(): Promise<Quarantine> {
    const pack = await this.#pack
    if (!pack) throw new Unproved(CHANGED)
    if (await pack.incoming.end()) return pack.quarantine
    throw new Unproved('its pack is damaged, too large, or leans on objects it does not bring; use --no-thin')
  }

  /** What runs is stopped; whoever waits for it hears of that. */
  async #giveUp(): Promise<void> {
    this.#late = true
    await this.close()
  }

  #unproved(error: unknown, what: string): Refusal {
    const why = this.#late ? 'it took too long' : error instanceof Unproved ? error.message : undefined
    if (why !== undefined) return this.#no('unproved', `this push cannot be checked ${what}: ${why}`)
    return this.#no('unproved', 'the Git host could not be asked what this push would change')
  }

  #no(code: 'unproved' | 'ref-refused', why: string): Refusal {
    return refusal(this.#session.operation, code, this.#client.repository, 'receive-pack', why)
  }
}

/** The updates of existing refs that no grant allows to be moved by force. */
function onlyForward(updates: readonly RefUpdate[], grants: readonly LiveGrant[]): RefUpdate[] {
  return updates.filter(update => update.kind === 'update' && permits(grants, 'force', update.ref).length === 0)
}

/** The updates that only grants with limits on paths allow, each with all the limits it may turn out to keep. */
function limitedOf(updates: readonly RefUpdate[], grants: readonly LiveGrant[]): Limited[] {
  const limits = new Map(grants.filter(limitsPaths).map(({ bounds }) => [limitKey(bounds!.paths!), bounds!.paths!]))
  return updates
    .filter(update => {
      const action = actionOf(update, grants)
      return action !== undefined && permits(grants, action, update.ref).some(limitsPaths)
    })
    .map(update => ({ update, limits: [...limits.values()] }))
}
