import type { LiveGrant } from '../grant/grant.ts'
import { permits } from '../grant/pattern.ts'
import { targetOf } from './advertise.ts'
import { Ancestry, Unproved } from './ancestry.ts'
import type { Client } from './client.ts'
import type { Commands, RefUpdate } from './git/refupdate.ts'
import type { HostOf } from './hosts.ts'
import { Inquiry } from './inquiry.ts'
import { actionOf } from './judge.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { Session } from './session.ts'

export interface ProofOptions {
  readonly hostOf: HostOf
  /** Where throwaway repositories may be made. */
  readonly state: string
  /** The largest pack read to tell a force push. */
  readonly proofBytes: number
}

/**
 * What can only be known of a push by asking: whether a ref it names is a symbolic one (updating it updates its target),
 * and whether an update that may only go forward does. Asked while the pack goes by; answered before its last bytes go.
 */
export class Proof {
  readonly #client: Client
  readonly #session: Session
  readonly #commands: Commands
  readonly #forward: readonly RefUpdate[]
  readonly #inquiry: Promise<Inquiry>
  readonly #symbolic: Promise<Map<string, string>>
  readonly #ancestry: Promise<Ancestry | undefined>

  constructor(client: Client, session: Session, commands: Commands, options: ProofOptions) {
    this.#client = client
    this.#session = session
    this.#commands = commands
    this.#forward = onlyForward(commands.updates, session.grants)
    this.#inquiry = Inquiry.open(options.hostOf(client.repository), targetOf(client, session.operation), session.signal)
    this.#symbolic = this.#inquiry.then(inquiry => inquiry.symbolic(commands.updates.map(update => update.ref)))
    this.#ancestry =
      this.#forward.length > 0 && commands.hasPack
        ? Ancestry.open(options.state, commands.objectFormat, options.proofBytes)
        : Promise.resolve(undefined)
    // Awaited in `verdict`; a fault that comes before is not an unhandled one.
    for (const promise of [this.#inquiry, this.#symbolic, this.#ancestry]) promise.catch(() => {})
  }

  /** Whether the bytes of the pack are wanted. */
  get reads(): boolean {
    return this.#forward.length > 0
  }

  /** The next bytes of the pack. */
  async read(chunk: Buffer): Promise<void> {
    await (await this.#ancestry)?.write(chunk)
  }

  /** Once the whole pack has been read: undefined, or why the push must not land. */
  async verdict(): Promise<Refusal | undefined> {
    const no = (code: 'unproved' | 'ref-refused', why: string) =>
      refusal(this.#session.operation, code, this.#client.repository, 'receive-pack', why)
    try {
      const symbolic = await this.#symbolic
      for (const update of this.#commands.updates) {
        const target = symbolic.get(update.ref)
        if (target === undefined) continue
        const action = actionOf(update, this.#session.grants)
        if (!action || permits(this.#session.grants, action, target).length === 0) {
          return no('ref-refused', `${update.ref} is a symbolic ref, and what it points to is not in your window`)
        }
      }
      const ancestry = await this.#ancestry
      for (const { ref, old, new: tip } of this.#forward) {
        if (!(await ancestry?.isForward(old, tip, () => this.#inquiry))) {
          return no('ref-refused', `${ref} would be moved by force, and your window allows only to move it forward`)
        }
      }
      return undefined
    } catch (error) {
      if (error instanceof Unproved) return no('unproved', error.message)
      return no('unproved', 'the Git host could not be asked what this push would change')
    }
  }

  async close(): Promise<void> {
    const [inquiry, ancestry] = await Promise.allSettled([this.#inquiry, this.#ancestry])
    if (inquiry.status === 'fulfilled') inquiry.value.close()
    if (ancestry.status === 'fulfilled') await ancestry.value?.close()
  }
}

/** The updates of existing refs that no grant allows to be moved by force. */
function onlyForward(updates: readonly RefUpdate[], grants: readonly LiveGrant[]): RefUpdate[] {
  return updates.filter(update => update.kind === 'update' && permits(grants, 'force', update.ref).length === 0)
}
