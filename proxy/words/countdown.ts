import type { Writable } from 'node:stream'
import { printable } from '../git/pktline.ts'
import type { Request } from './request.ts'

const EVERY_MILLISECONDS = 1_000
const ASKED_CHARACTERS_MAX = 200

/**
 * Who is being asked, and under it a line that counts down the time a command waits. Written over by itself: without a
 * terminal's own escapes, since nobody tells a gate whether a terminal is there.
 */
export function countDown(stderr: Writable, request: Request, milliseconds: number): { end(): void } {
  const { id, waiting_for = 'approval' } = request
  stderr.write(`drawbridge: ${id} asks for this: ${printable(waiting_for, ASKED_CHARACTERS_MAX)} to approve\n`)
  const until = performance.now() + milliseconds
  let shown = ''
  const show = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000))
    const clock = [left / 3600, (left / 60) % 60, left % 60].map(part => String(Math.floor(part)).padStart(2, '0'))
    shown = `drawbridge: waiting, ${clock.join(':')} left; Ctrl-C leaves it standing`
    // Never behind a client that does not read: the line is only of use while it is new.
    if (!stderr.writableNeedDrain) stderr.write(`\r${shown}`)
  }
  show()
  const timer = setInterval(show, EVERY_MILLISECONDS)
  return {
    end: () => {
      clearInterval(timer)
      stderr.write(`\r${' '.repeat(shown.length)}\r`)
    },
  }
}
