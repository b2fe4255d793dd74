import type { Socket } from 'node:net'

export interface DoorLimits {
  readonly connections: number
  readonly connectionsPerSource: number
}

/**
 * Counts who is inside: in all, and for each source. A source is an address, or for IPv6 a /64, since whoever has one
 * address there has the others.
 */
export class Door {
  readonly #limits: DoorLimits
  readonly #sockets = new Set<Socket>()
  readonly #bySource = new Map<string, number>()

  constructor(limits: DoorLimits) {
    this.#limits = limits
  }

  get inside(): number {
    return this.#sockets.size
  }

  /** Lets a socket in before it is known whose it is; false when the house is full. */
  enter(socket: Socket): boolean {
    if (this.#sockets.size >= this.#limits.connections) return false
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    return true
  }

  /** Counts it for its source; false when that source has too many. */
  claim(socket: Socket, address: string): boolean {
    const source = sourceOf(address)
    const count = this.#bySource.get(source) ?? 0
    if (count >= this.#limits.connectionsPerSource) return false
    this.#bySource.set(source, count + 1)
    socket.once('close', () => {
      const left = (this.#bySource.get(source) ?? 1) - 1
      if (left > 0) this.#bySource.set(source, left)
      else this.#bySource.delete(source)
    })
    return true
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** Expects addresses in their canonical spelling, as `readSource` gives them. */
export function sourceOf(address: string): string {
  if (!address.includes(':')) return address
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - after.length)
  return [...groups, ...new Array<string>(zeros).fill('0'), ...after].slice(0, 4).join(':')
}
