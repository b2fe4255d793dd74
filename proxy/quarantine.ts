import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import type { ObjectFormat } from './git/objectid.ts'
import type { PacketReader } from './git/pktline.ts'

/** Kibibytes of address space for one git: a delta of some bytes can stand for an object of gigabytes. */
const ADDRESS_SPACE_KIB = 2 << 20

/** Why it could not be told what a push does. The message goes on after "this push cannot be checked for …: ". */
export class Unproved extends Error {}

/** A pack on its way into a quarantine. */
export interface Incoming {
  /** The next bytes of the pack, its trailer included; resolves when more can be taken. */
  write(chunk: Buffer): Promise<void>
  /** The pack is whole. False when git could not read it by itself: a thin pack, a broken one, one too large. */
  end(): Promise<boolean>
}

/**
 * A throwaway repository for objects that nobody has let in yet. A pack is git's to read; what is read here can do nothing:
 * there is no working tree, no hook, no configuration but ours, no way out to another host, and only so much memory.
 */
export class Quarantine {
  readonly directory: string
  readonly format: ObjectFormat
  readonly #running = new Set<ChildProcess>()
  #closed = false

  private constructor(directory: string, format: ObjectFormat) {
    this.directory = directory
    this.format = format
  }

  /** A new one in a folder below `state`. */
  static async open(state: string, format: ObjectFormat): Promise<Quarantine> {
    const made = new Quarantine(await mkdtemp(join(state, 'quarantine-')), format)
    const init = made.git(['init', '--quiet', '--bare', '--template=', `--object-format=${format}`])
    init.stdin?.end()
    init.stdout?.resume()
    if (await exited(init)) return made
    await made.close()
    throw new Error('git init failed: is git installed and the state folder writable?')
  }

  /** One of git's programs, at work in here. */
  git(args: readonly string[]): ChildProcess {
    if (this.#closed) throw new Unproved('it was given up')
    const child = spawn('/bin/sh', ['-c', LIMITED, 'git', '--git-dir', this.directory, ...SETTINGS, ...args], {
      cwd: this.directory,
      stdio: ['pipe', 'pipe', 'ignore'],
      env: {
        PATH: process.env.PATH,
        HOME: this.directory,
        LC_ALL: 'C',
        // Nobody's configuration, replacements or attributes have a say in a proof, and nothing is fetched from here.
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_ATTR_NOSYSTEM: '1',
        GIT_NO_REPLACE_OBJECTS: '1',
        GIT_ALLOW_PROTOCOL: '',
      },
    })
    this.#running.add(child)
    child.once('close', () => this.#running.delete(child))
    // What it thinks of its input is told by its exit; a broken pipe is the same news.
    child.stdin?.on('error', () => {})
    return child
  }

  /**
   * Takes a pack in.
   *
   * @param bytes the largest it will take
   * @param strict refuses trees that two programs could read differently: entries out of order, twice, or with a slash
   */
  receive(bytes: number, { strict = false } = {}): Incoming {
    const checks = strict ? ['--fsck-objects'] : []
    const index = this.git(['index-pack', '--stdin', '--threads=1', `--max-input-size=${bytes}`, ...checks])
    index.stdout?.resume()
    const indexed = exited(index)
    const stdin = index.stdin as Writable
    return {
      write: async chunk => {
        if (!stdin.destroyed && !stdin.write(chunk)) await writable(stdin)
      },
      end: () => {
        stdin.end()
        return indexed
      },
    }
  }

  /**
   * Takes in the pack of a host's answer.
   *
   * @param answer standing behind its `packfile` line; its packets carry side-bands
   * @throws Unproved when the host breaks off, or sends more than `bytes`
   */
  async take(answer: PacketReader, bytes: number): Promise<void> {
    const incoming = this.receive(bytes)
    for (;;) {
      // Each packet is let go as soon as it was handed on: the limit is for one at a time.
      answer.forget()
      const packet = await answer.read()
      if (packet?.kind !== 'data') break
      if (packet.payload[0] === 3) throw new Unproved('the Git host broke off')
      if (packet.payload[0] === 1) await incoming.write(packet.payload.subarray(1))
    }
    if (!(await incoming.end())) throw new Unproved('the Git host sent too much or too little')
  }

  /** Ends whatever is at work in here. What waits for it hears that it was given up. */
  stop(): void {
    this.#closed = true
    for (const child of this.#running) child.kill('SIGKILL')
  }

  /** Takes everything away again. */
  async close(): Promise<void> {
    this.stop()
    await Promise.all([...this.#running].map(exited))
    await rm(this.directory, { recursive: true, force: true })
  }
}

// Where a shell cannot limit it, the other limits have to do.
const LIMITED = `ulimit -v ${ADDRESS_SPACE_KIB} 2>/dev/null; exec git "$@"`
/** Large blobs are passed over in pieces, and packs are looked at through small windows. */
const SETTINGS = [
  ...['-c', 'core.bigFileThreshold=1m'],
  ...['-c', 'core.packedGitWindowSize=16m'],
  ...['-c', 'core.packedGitLimit=128m'],
]

/** When more can be written; also when nothing ever can, which the program's exit tells. */
function writable(stdin: Writable): Promise<void> {
  return new Promise(resolve => {
    if (stdin.destroyed) return resolve()
    stdin.once('drain', resolve).once('close', resolve)
  })
}

/** Whether a program ended well. */
export function exited(child: ChildProcess): Promise<boolean> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve(child.exitCode === 0)
    child.once('error', () => resolve(false))
    child.once('close', code => resolve(code === 0))
  })
}
