import { Readable } from 'node:stream'
import { PacketCounter, ProtocolError } from '../git/pktline.ts'
import type { Lending } from './upstream.ts'

/**
 * One answer out of a conversation: passes packets on up to and including the first flush, then ends and leaves `source`
 * open for the next answer. A host in a conversation is silent after its flush until it is spoken to, so bytes behind it
 * are an error.
 *
 * @param failure asked when `source` ends before the flush; gives the better reason, if there is one
 */
export function untilFlush(
  source: Readable & Partial<Lending>,
  failure: () => Promise<Error | undefined>,
): Readable & Partial<Lending> {
  let flushed = false
  let trailing = false
  const counter = new PacketCounter({
    watch: length => {
      trailing = flushed
      flushed ||= length === 0
    },
  })
  const answer = new Readable({
    read: () => source.resume(),
    destroy: (error, done) => {
      release()
      done(error)
    },
  })
  const onData = (chunk: Buffer) => {
    try {
      counter.count(chunk)
      if (flushed && (trailing || !counter.atBoundary)) {
        throw new ProtocolError('ERR_PKT_TRAILING', 'the Git host went on talking after the end of its answer')
      }
    } catch (error) {
      answer.destroy(error instanceof Error ? error : new Error(String(error)))
      return
    }
    const more = answer.push(chunk)
    if (flushed) {
      release()
      answer.push(null)
    } else if (!more) source.pause()
  }
  const onBroken = () => {
    release()
    // The program's status and last words come a moment after its output's end.
    void failure().then(error => {
      answer.destroy(error ?? new ProtocolError('ERR_PKT_EOF', 'the Git host ended before its answer was complete'))
    })
  }
  function release() {
    source.off('data', onData).off('end', onBroken).off('error', onBroken).off('close', onBroken)
    source.pause()
  }
  // It may break off before anybody reads it: that is for the reader to find, and no uncaught exception.
  answer.on('error', () => {})
  source.on('data', onData).on('end', onBroken).on('error', onBroken).on('close', onBroken)
  source.pause()
  // It may have ended before anybody listened.
  if (source.destroyed || source.readableEnded) process.nextTick(onBroken)
  return source.giveBack ? Object.assign(answer, { giveBack: source.giveBack }) : answer
}
