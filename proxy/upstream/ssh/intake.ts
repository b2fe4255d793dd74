import type { OnReadOpts } from 'node:net'
import { Intake } from '../blocks.ts'

/** A read that brings as much as this is part of a pack, or of a long list of refs. */
const MUCH_BYTES = 8 * 1024

/**
 * What a connection's socket is read into: memory that is used again, in which packets are decrypted where they lie and
 * from which a channel's data is lent on. ssh2 copies everything else that it keeps.
 */
export class SshIntake {
  readonly #intake = new Intake()
  #much = false
  #loggedIn = false

  /** For a socket; `onChunk` is shown what each read brought, which is overwritten by the next. */
  onread(onChunk: (chunk: Buffer) => void): OnReadOpts {
    return {
      buffer: () => this.#intake.next(this.#much),
      callback: count => {
        this.#much = count >= MUCH_BYTES
        const chunk = this.#intake.read(count)
        // A key exchange and a login keep parts of what was said until they are over.
        onChunk(this.#loggedIn ? chunk : Buffer.from(chunk))
        return true
      },
    }
  }

  begin(): void {
    this.#loggedIn = true
  }

  /** A channel's data, to be kept for as long as one likes. */
  lend(data: Buffer): Buffer {
    return this.#intake.lend(data)
  }

  giveBack(chunk: Buffer): void {
    this.#intake.giveBack(chunk)
  }

  close(): void {
    this.#intake.close()
  }
}
