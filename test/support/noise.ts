import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { makeRepository, noise } from './git.ts'

const PIECE_BYTES = 4 << 20
/** Files of so much, none of which git holds in memory. */
const FILE_BYTES = 256 << 20

/**
 * A bare repository of one commit with so many bytes that nothing can shrink, made as fast as git hashes them: they are
 * written as they come, neither compressed nor compared with each other. Of any size; memory holds a few megabytes of it.
 */
export async function makeNoiseRepository(path: string, bytes: number): Promise<string> {
  const config = { 'core.compression': '0', 'pack.compression': '0', 'core.bigFileThreshold': '512k' }
  await makeRepository(path, { commits: 0, config })
  const git = spawn('git', ['fast-import', '--quiet'], { cwd: path, stdio: ['pipe', 'ignore', 'inherit'] })
  const ended = once(git, 'exit')
  await pipeline(Readable.from(commitOf(bytes), { objectMode: false }), git.stdin)
  const [status] = await ended
  if (status !== 0) throw new Error(`git fast-import ended with ${status}`)
  return path
}

function* commitOf(bytes: number): Generator<Buffer> {
  yield Buffer.from('commit refs/heads/main\ncommitter Alice <alice@example.org> 1767225600 +0000\ndata 6\nnoise\n')
  const piece = noise(PIECE_BYTES)
  for (let file = 0, left = bytes; left > 0; file++) {
    const size = Math.min(left, FILE_BYTES)
    left -= size
    yield Buffer.from(`M 100644 inline noise-${file}\ndata ${size}\n`)
    for (let at = 0; at < size; at += PIECE_BYTES) {
      // Not the piece itself: what was yielded may not have been written yet.
      const next = Buffer.from(piece.subarray(0, Math.min(PIECE_BYTES, size - at)))
      next.write(`${file} ${at}`)
      yield next
    }
    yield Buffer.from('\n')
  }
}
