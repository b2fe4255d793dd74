import { newId } from '../audit/id.ts'
import type { Via } from '../audit/record.ts'
import { notFound, Problem } from './api/problem.ts'
import type { Act } from './register/act.ts'
import { type Comment, countComments, writeComment } from './register/comments.ts'
import { lockRequest } from './register/requests.ts'

/** Talking about a request, wherever people are: one thread of comments, on record and told on. None of it is a vote. */

export const COMMENT_CHARACTERS_MAX = 1_000
export const COMMENTS_MAX = 200

/**
 * Adds a comment to a request. The same message of a channel is the same comment.
 * @throws Problem when there is no such request, or nobody says more about it
 */
export async function comment(
  act: Act,
  said: {
    readonly request: string
    readonly by: string
    readonly via: Via | undefined
    readonly content: string
    readonly origin?: Comment['origin']
  },
  now: number,
): Promise<Comment> {
  return await act(async change => {
    // The row is locked, so that of two at one moment the second is counted after the first.
    const found = await lockRequest(change, said.request)
    if (found === undefined) throw notFound('request', said.request)
    if ((await countComments(change.sql, said.request)) >= COMMENTS_MAX) {
      throw new Problem(409, 'too-many-comments', `${said.request} has ${COMMENTS_MAX} comments, and takes no more`)
    }
    const { request, by, via, content, origin } = said
    const written: Comment = { id: newId('c'), at: now, ...said }
    if (!(await writeComment(change.sql, written))) return written
    const { principal, targets } = found.request.asked
    change.record({
      kind: 'request.comment',
      ...{ by, request, principal, reason: content },
      repository: [...new Set(targets.map(({ repository }) => repository))].join(' '),
      ...(via && { via }),
      ...(origin && { channel: origin.channel }),
    })
    return written
  })
}
