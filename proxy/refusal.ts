import type { Service } from '../audit/record.ts'
import { err, printable } from './git/pktline.ts'

/**
 * Why an attempt was not let through: an answer, not an error. `code` is for programs and records, the sentence and the
 * hint are for the person, and every refusal carries the operation's id, which finds its record.
 */
export interface Refusal {
  readonly kind: 'refusal'
  readonly operation: string
  readonly code: RefusalCode
  readonly sentence: string
  readonly hint?: string
  /** Of single refs of a push, where it is not the same for all. */
  readonly byRef?: ReadonlyMap<string, string>
}

export type RefusalCode =
  | 'no-grant'
  | 'not-here'
  | 'spent'
  | 'locked'
  | 'barred'
  | 'unconfirmed'
  | 'redis-unreachable'
  | 'ledger-unreachable'
  | 'draining'
  | 'ref-refused'
  | 'unproved'
  | 'protocol'
  | 'upstream'
  | 'cut'

/**
 * The sentence and hint of a refusal. One wording for "no grant" whether or not the repository exists, so that nobody
 * can map the host by asking.
 */
export function refusal(
  operation: string,
  code: RefusalCode,
  repository: string,
  service: Service,
  detail?: string,
): Refusal {
  const what = service === 'receive-pack' ? '--push' : service === 'upload-archive' ? '--archive' : '--fetch'
  const ask = `ask with: git access request ${repository} ${what} --for 1h`
  const say = (sentence: string, hint?: string): Refusal => ({
    kind: 'refusal',
    operation,
    code,
    sentence,
    ...(hint === undefined ? {} : { hint }),
  })
  switch (code) {
    case 'no-grant':
      return say(`no open window for you on ${repository}`, ask)
    case 'not-here':
      return say(detail ?? 'your window does not hold here', 'come from there, at its hours, or ask for another window')
    case 'spent':
      return say(`your window on ${repository} has been used up`, ask)
    case 'locked':
      return say(`your access is locked${detail ? `: ${detail}` : ''}`, 'speak to your security team')
    case 'barred':
      return say('the credential you used has been revoked', 'sign in again, or ask an administrator for a new token')
    case 'unconfirmed':
      return say(
        'the gate is checking its revocations after a restart and lets nothing through',
        'try again in some seconds',
      )
    case 'redis-unreachable':
      return say('the gate cannot reach its grants and lets nothing through', 'try again in some seconds')
    case 'ledger-unreachable':
      return say('the gate cannot write its record and lets nothing through', 'try again in some seconds')
    case 'draining':
      return say('this gate is being stopped', 'try again: another will answer')
    case 'ref-refused':
      return say(detail ?? 'a ref of this push is not in your window', ask)
    case 'unproved':
      return say(detail ?? 'it could not be shown that this push only moves refs forward', `${ask} --force`)
    case 'protocol':
      return say(detail ?? 'the request was not understood')
    case 'upstream':
      return say(detail ?? 'the Git host did not answer', 'try again; if it stays so, tell the operator of the gate')
    case 'cut':
      return say(detail ?? 'your window has ended', ask)
  }
}

/** What is put on record of a refusal that was let through. */
export function onRecord({ code, sentence }: Refusal): { readonly code: string; readonly reason: string } {
  return { code, reason: sentence }
}

/** What a person reads, a line each. Whatever they themselves typed has lost its control characters. */
export function lines(refused: Refusal): string[] {
  const { sentence, hint, operation } = refused
  return [sentence, ...(hint ? [hint] : []), `(operation ${operation})`].map(line => printable(line, 300))
}

/** The refusal as the `ERR` packet that git shows as `fatal: remote error: …`. */
export function errPacket(refused: Refusal): Buffer {
  return err(lines(refused).join('\n'))
}
