import { createRequire } from 'node:module'
import type { Socket } from 'node:net'
import ssh2 from 'ssh2'

/** What `patches/ssh2+1.17.0.patch` calls itself; raised there and here together. */
const PATCH = 2

/** The ssh2 that is installed, and what of it the program must know before it trusts its network to it. */
export interface Ssh2State {
  readonly patched: boolean
  /** The native ciphers are loaded. Without them it works, at about a second more CPU for each gigabyte. */
  readonly nativeCrypto: boolean
}

export function ssh2State(): Ssh2State {
  const require = createRequire(import.meta.url)
  const { bindingAvailable }: { bindingAvailable?: unknown } = require('ssh2/lib/protocol/crypto.js')
  return { patched: Reflect.get(ssh2, 'drawbridgePatch') === PATCH, nativeCrypto: bindingAvailable === true }
}

/**
 * Refuses an ssh2 without its patch: unpatched it spins on a packet size of 0, buffers without bound, and takes SHA-1.
 *
 * @throws Error that says how to apply it
 */
export function requirePatchedSsh2(): Ssh2State {
  const state = ssh2State()
  if (!state.patched) {
    throw new Error('the installed ssh2 lacks patches/ssh2+1.17.0.patch; run: npx patch-package')
  }
  return state
}

// What the patch adds to ssh2's own interface.
declare module 'ssh2' {
  interface ServerConfig {
    /** How many channels one connection may have open at once. */
    maxChannels?: number
  }
  interface ConnectConfig {
    /**
     * The memory that the socket is read into is used again: keeps a channel's data, and gives what the channel is to
     * have in its place.
     */
    lend?(data: Buffer): Buffer
  }
  interface PublicKeyAuthContext {
    /** The algorithm as the request named it: `rsa-sha2-512`, `ssh-ed25519-cert-v01@openssh.com`. */
    readonly algorithm: string
    /** The whole `string algorithm, string signature`; absent where the client only asks whether the key would do. */
    readonly signatureBlob?: Buffer
  }
  interface ClientInfo {
    /** The socket given to `injectSocket`. */
    readonly socket: Socket
  }
  interface Connection {
    end(description?: string): this
    /** Shown to the person by the client; only before the login is done. */
    authBanner(text: string): this
  }
  interface PublicKeyAuthMethod {
    /** An OpenSSH certificate of the key, presented in the key's place. */
    certificate?: Buffer
  }
}
