import type { Readable, Writable } from 'node:stream'
import type { AcceptConnection, ServerChannel, Session } from 'ssh2'
import type { Caller, Serve } from '../client.ts'
import { err, printable } from '../git/pktline.ts'
import { carry } from './carry.ts'
import { parseCommand, parseGitProtocol, whatWorks } from './command.ts'

/** What a command of our own (`whoami`, `status`, …) is given; it resolves to its exit status. */
export interface CommandContext {
  readonly caller: Caller
  /** The public key that proved who this is. */
  readonly publicKey: Buffer
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  readonly gone: AbortSignal
  /** Whether the connection's credential still stands for this person: what goes on for long asks again. */
  stands(): Promise<boolean>
}

export type OwnCommand = (args: readonly string[], context: CommandContext) => Promise<number>

export interface SessionOptions {
  readonly serve: Serve
  readonly commands: Readonly<Record<string, OwnCommand>>
  /** The one spelling of a repository, or undefined when the path is not one. */
  resolveRepository(path: string): string | undefined
  /** Who this is, asked again for every command; undefined when the credential no longer stands for anybody. */
  caller(): Promise<{ readonly caller: Caller; readonly publicKey: Buffer } | undefined>
  readonly gone: AbortSignal
  onFault(error: unknown): void
  /** A command begins, and ends. */
  onStart(): void
  onEnd(): void
}

/** Exit statuses: git's own for "fatal", the shell's for "no such command". */
const FATAL = 128
const NO_SUCH_COMMAND = 127
const MESSAGE_CHARACTERS_MAX = 500

/**
 * One session channel (RFC 4254, section 6): at most one command. Terminals, X11 and agent forwarding are refused, and so
 * are environment variables but GIT_PROTOCOL; shells and subsystems are taken only to say what works here.
 */
export function attend(session: Session, options: SessionOptions): void {
  const words = new Set(Object.keys(options.commands))
  let gitProtocol: string | undefined
  session.on('env', (accept, reject, { key, val }) => {
    if (key !== 'GIT_PROTOCOL') return reject?.()
    gitProtocol = val
    accept?.()
  })
  session.on('pty', (_accept, reject) => reject?.())
  session.on('x11', (_accept, reject) => reject?.())
  session.on('auth-agent', (_accept, reject) => reject?.())
  session.on('shell', accept => run(accept, streams => refuse(streams, whatWorks(words), NO_SUCH_COMMAND)))
  session.on('subsystem', accept => run(accept, streams => refuse(streams, whatWorks(words), NO_SUCH_COMMAND)))
  session.on('exec', (accept, _reject, { command }) => run(accept, streams => execute(command, streams)))

  /** Accepted at once and decided afterwards: what a client sends before the answer would be thrown away by ssh2. */
  function run(accept: AcceptConnection<ServerChannel>, execute: (streams: Streams) => Promise<number>): void {
    const channel: ServerChannel | undefined = accept()
    // RFC 4254, section 6.5: a session runs one command; ssh2 gives no second channel.
    if (channel === undefined) return
    const carried = carry(channel)
    const left = new AbortController()
    const gone = AbortSignal.any([options.gone, left.signal])
    session.once('close', () => left.abort())
    gone.addEventListener('abort', () => carried.abandon(), { once: true })
    options.onStart()
    execute({ ...carried, gone })
      .catch(error => {
        if (gone.aborted) return FATAL
        options.onFault(error)
        return refuse(carried, 'the gate failed; try again, and tell its operator if it stays so', FATAL)
      })
      .then(status => (gone.aborted ? undefined : carried.finish(status)))
      .catch(options.onFault)
      .finally(options.onEnd)
  }

  async function execute(commandLine: string, streams: Streams): Promise<number> {
    const command = parseCommand(commandLine, words)
    if (command.kind === 'refused') return refuse(streams, command.reason, FATAL)
    const who = await options.caller()
    if (who === undefined) {
      return refuse(streams, 'the credential of this connection has ended; connect again with a new one', FATAL)
    }
    const { request, response, stderr, gone } = streams
    if (command.kind === 'word') {
      const own = options.commands[command.name]!
      const stands = async () => (await options.caller())?.caller.principal === who.caller.principal
      return own(command.args, { ...who, stdin: request, stdout: response, stderr, gone, stands })
    }
    const repository = options.resolveRepository(command.path)
    if (repository === undefined) {
      // As a packet: git shows it as `fatal: remote error: …`, where stderr alone leaves git to guess at the reason.
      response.write(
        err(`${printable(JSON.stringify(command.path), 200)} is no repository path: write UPSTREAM/PATH.git`),
      )
      return FATAL
    }
    const { status } = await options.serve({
      caller: who.caller,
      repository,
      service: command.service,
      protocol: parseGitProtocol(gitProtocol),
      part: 'conversation',
      request,
      response,
      stderr,
      gone,
    })
    return status
  }
}

interface Streams {
  readonly request: Readable
  readonly response: Writable
  readonly stderr: Writable
  readonly gone: AbortSignal
}

async function refuse({ stderr }: { readonly stderr: Writable }, reason: string, status: number): Promise<number> {
  stderr.write(`drawbridge: ${printable(reason, MESSAGE_CHARACTERS_MAX)}\n`)
  return status
}
