import { join } from 'node:path'
import type { OperationEnd, OperationStart } from '../../audit/record.ts'
import { type GitResult, git, millisecondsFor } from './git.ts'
import { type Line, type LineOptions, startLine } from './line.ts'
import { temporaryFolder, until } from './program.ts'
import type { Stand, StartedProxy } from './stand.ts'

// Stock git in the middle of a pack, held there by a line that stalls, so that nothing has to be large or slow.

/** Bytes that pass before the line stalls: the pack has begun, and its end is far. */
const STALL_BYTES = 1 << 20
/** A repository, or a commit, with so much noise in it is not through when the line stalls: buffers on the way take some. */
export const UNDERWAY_BYTES = process.env.STORY_LARGE ? 1e9 : 24 << 20

export interface Underway {
  readonly start: OperationStart
  /** Lets the line go on, and gives how git ended. */
  finish(): Promise<GitResult>
  /** The end record, once it is there. */
  end(milliseconds?: number): Promise<OperationEnd>
}

export interface UnderwayOptions {
  readonly what: 'clone' | 'push'
  readonly transport: 'http' | 'ssh'
  readonly repository: string
  /** A clone whose HEAD is pushed. */
  readonly work?: string
  /** Where to; `refs/heads/main` unless said otherwise. */
  readonly ref?: string
  readonly proxy?: Pick<StartedProxy, 'urls'>
}

/** Starts a clone or a push and waits until it is in the middle of its pack. Whoever asks stops the line. */
export async function underway(
  stand: Stand,
  { what, transport, repository, work, ref = 'refs/heads/main', proxy = stand.proxies[0]! }: UnderwayOptions,
): Promise<Underway & { readonly line: Line }> {
  const options: LineOptions = what === 'clone' ? { downAfter: STALL_BYTES } : { upAfter: STALL_BYTES }
  const { url, env } = await stand.remote(transport, repository, proxy)
  const through = new URL(url)
  const line = await startLine(Number(through.port), options)
  through.port = String(line.port)
  const soFar = () => stand.records({ underway: true })
  const before = new Set((await soFar()).map(record => ('operation' in record ? record.operation : '')))
  const clone = join(temporaryFolder('clone'), 'work')
  const args = what === 'clone' ? ['clone', through.href, clone] : ['push', through.href, `HEAD:${ref}`]
  const timeout = millisecondsFor(UNDERWAY_BYTES)
  const running = git(args, { env, timeout, ...(work !== undefined && { cwd: work }) })
  const action = what === 'clone' ? 'fetch' : 'push'
  const start = await until(
    async () =>
      (await soFar()).find(
        (record): record is OperationStart =>
          record.kind === 'operation.start' && record.action === action && !before.has(record.operation),
      ),
    `the ${what} to begin`,
  )
  await until(() => line.stalled, 'the line to stall')
  return {
    line,
    start,
    finish: () => {
      line.resume()
      return running
    },
    end: milliseconds =>
      until(
        async () =>
          (await soFar()).find(
            (record): record is OperationEnd => record.kind === 'operation.end' && record.operation === start.operation,
          ),
        `the ${what} to end`,
        milliseconds,
      ),
  }
}
