import type { Event, Reach } from '../../config/notify.ts'
import type { Weekly } from '../../config/policy/hours.ts'
import type { Payload } from './payload.ts'

/** Who is to hear of a notice, as persons; how a person is reached is the channel's business. */
export interface Audience {
  /** Persons who are asked to decide now. */
  readonly asked: readonly string[]
  /** Persons who are told. */
  readonly told: readonly string[]
  /** Where a person is, as the settings say, else by the names they sign in with. */
  reach(person: string): Reach
}

/** Whom a channel tells: an address of its own kind, and the person behind it where that is known. */
export interface Recipient {
  readonly address: string
  readonly person?: string
  /** When they want to hear of what is not urgent. */
  readonly hours?: Weekly | undefined
  /** What they see is edited, which calls nobody: nothing of it is gathered into a digest. */
  readonly edited?: boolean
}

/** Whoever is asked, with the person behind the address, and whoever is told; each address once. */
export function eachPerson(
  { asked, told, reach }: Audience,
  addressOf: (reach: Reach) => string | undefined,
): Recipient[] {
  const found = new Map<string, Recipient>()
  for (const person of asked) {
    const { hours, ...where } = reach(person)
    const address = addressOf(where)
    if (address !== undefined) found.set(address, { address, person, hours })
  }
  for (const person of told) {
    const { hours, ...where } = reach(person)
    const address = addressOf(where)
    if (address !== undefined && !found.has(address)) found.set(address, { address, hours })
  }
  return [...found.values()]
}

/** One notice on its way to one recipient. */
export interface Delivery {
  /** The same on every attempt. */
  readonly id: string
  readonly thread: string
  readonly content: Payload
  readonly recipient: string
  readonly person?: string
  /** What this channel answered to the first delivery of the thread to this recipient, where there was one. */
  readonly first?: string
  /** 1 at the first attempt. */
  readonly attempt: number
}

/** Notices that are told together. */
export interface Digest {
  /** The same on every attempt. */
  readonly id: string
  readonly recipient: string
  /** In the order in which they happened. */
  readonly contents: readonly Payload[]
}

/** A way to reach people or programs. */
export interface Channel {
  readonly name: string
  /** Who is to hear of this; nobody: an empty list. */
  recipients(content: Payload, audience: Audience): Promise<readonly Recipient[]>
  /**
   * Resolves to what the channel calls it, once the other side has taken it.
   * @throws ChannelError
   */
  send(delivery: Delivery, signal: AbortSignal): Promise<string | undefined>
  /**
   * Sends several notices to one recipient as one message.
   * @throws ChannelError
   */
  digest?(digest: Digest, signal: AbortSignal): Promise<void>
  /** What the other side sends to us; believed only as far as the channel can prove who sent it. */
  receive?(incoming: Incoming): Promise<Reply>
  close?(): Promise<void>
}

/** A request to `/channels/NAME`. */
export interface Incoming {
  readonly raw: Buffer
  header(name: string): string | undefined
  readonly address: string | undefined
}

export interface Reply {
  readonly status: number
  readonly body?: object
}

/** An edited message calls nobody; of these people hear in time only by a new one, which goes below it. */
export const RINGS: ReadonlySet<Event> = new Set(['request.escalated', 'window.ending'])

/** It did not arrive. */
export class ChannelError extends Error {
  readonly code = 'ERR_CHANNEL'
  /** Another attempt with the same content will fail as well. */
  readonly lasting: boolean
  /** Milliseconds the other side asked to be left alone. */
  readonly pause: number | undefined
  constructor(message: string, how: { lasting?: boolean; pause?: number | undefined; cause?: unknown } = {}) {
    super(message, { cause: how.cause })
    this.name = 'ChannelError'
    this.lasting = how.lasting ?? false
    this.pause = how.pause
  }
}
