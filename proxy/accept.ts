import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Address } from '../config/settings.ts'

/** The two fronts, by what they are called in the settings. */
export type Front = 'http' | 'ssh'

/** What a front wants of the sockets it is given. */
export interface Wanted {
  readonly allowHalfOpen?: boolean
  /** Nothing is read before the front says so. */
  readonly pauseOnConnect?: boolean
  onSocket(socket: Socket): void
  /** The listener fails, for want of file descriptors say, and goes on. */
  onFault(error: Error): void
}

/** A listener that gives its sockets to a front. */
export interface Accepting {
  readonly address: { readonly address: string; readonly port: number }
  /** Gives no more, and resolves when every socket it gave is closed. May be asked again. */
  close(): Promise<void>
}

/**
 * Where a front's connections come from: its own listening socket (`listen`), or another process that has the listening
 * socket and hands out what it accepts.
 *
 * @throws when the address cannot be listened on
 */
export type Accept = (front: Front, at: Address, wanted: Wanted) => Promise<Accepting>

export const listen: Accept = (_front, { host, port }, { onSocket, onFault, ...options }) =>
  new Promise((resolve, reject) => {
    const server = createServer(options, onSocket)
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject).on('error', onFault)
      let closed: Promise<void> | undefined
      resolve({
        address: server.address() as AddressInfo,
        close: () => {
          closed ??= new Promise(over => server.close(() => over()))
          return closed
        },
      })
    })
  })
