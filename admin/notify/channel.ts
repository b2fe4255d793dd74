import type { Audience } from './audience.ts'
import type { Payload } from './payload.ts'

/** Whom a channel tells: an address of its own kind, and the person behind it where that is known. */
export interface Recipient {
  readonly address: string
  readonly person?: string
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
