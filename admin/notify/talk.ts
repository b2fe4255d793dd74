import { Problem } from '../api/problem.ts'
import { whyNoVote } from '../approval.ts'
import { COMMENT_CHARACTERS_MAX, comment } from '../comment.ts'
import { findRequest } from '../register/requests.ts'
import { ballotOf } from '../request.ts'
import { voterOf, withInvolved } from '../voter.ts'
import { type ChannelVia, callerOf, type Deciding } from './vote.ts'

/** What a person said about a request in a channel becomes a comment on it, where they have to do with it. */

const NO_PART = 'only whoever asked, whoever may decide, and those who read the ledger'

/** @throws Problem when it is not taken */
export async function commentByChannel(
  { sql, act, policy, now }: Deciding,
  said: {
    readonly person: string
    readonly request: string
    readonly content: string
    readonly channel: string
    readonly via: ChannelVia
    /** What the message is called there. */
    readonly message: string
  },
): Promise<void> {
  const { person, request: id, channel, via, message } = said
  const content = oneLine(said.content)
  if (content === '') return
  const standing = policy.standing()
  const at = await now()
  const caller = await callerOf(sql, standing, { person, channel })
  const found = await findRequest(sql, id)
  if (found === undefined) throw new Problem(404, 'not-found', `there is no request ${id}`)
  const request = withInvolved(standing, found.request)
  const hasPart =
    request.involved.includes(person) ||
    caller.roles.some(role => role === 'auditor' || role === 'admin') ||
    whyNoVote(ballotOf(request), voterOf(standing, caller, at)) === undefined
  if (!hasPart) throw new Problem(403, 'no-part', `${person} has no part in ${id}: ${NO_PART} comment on it`)
  await comment(act, { request: id, by: person, via, content, origin: { channel, message } }, at)
}

/** As it will stand in terminals and in the ledger: one line of letters, and no longer than a comment may be. */
function oneLine(text: string): string {
  const line = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim()
  return line.length > COMMENT_CHARACTERS_MAX ? `${line.slice(0, COMMENT_CHARACTERS_MAX - 1).toWellFormed()}…` : line
}
