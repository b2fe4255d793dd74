import type { Sql } from 'postgres'
import type { Via } from '../../audit/record.ts'
import type { Role } from '../../ca/token.ts'
import type { Caller } from '../api/access.ts'
import { Problem } from '../api/problem.ts'
import { castVote } from '../decide.ts'
import type { PolicyInForce, Standing } from '../policy.ts'
import type { Act } from '../register/act.ts'
import { listLocks } from '../register/locks.ts'
import { personBehind } from '../voter.ts'

/** A vote that came by a channel: by a person whom the channel has proved, under the rules of every other vote. */

/** What deciding takes. */
export interface Deciding {
  readonly sql: Sql
  readonly act: Act
  readonly policy: Pick<PolicyInForce, 'standing'>
  /** Redis's clock. */
  readonly now: () => Promise<number>
}

/** The kinds of channels by which people decide. */
export type ChannelVia = Extract<Via, 'slack' | 'email' | 'teams'>

export interface ChannelVote {
  readonly person: string
  readonly request: string
  readonly digest: string
  readonly says: 'approve' | 'deny'
  readonly comment?: string
  /** By which channel it came, and of which kind that is. */
  readonly channel: string
  readonly via: ChannelVia
}

/** @throws Problem when the vote does not count */
export async function voteByChannel(deciding: Deciding, vote: ChannelVote): Promise<void> {
  const { sql, act, policy, now } = deciding
  const standing = policy.standing()
  const caller = await callerOf(sql, standing, vote)
  const comment = vote.comment ? { comment: vote.comment } : {}
  const { request: id, says, digest, via } = vote
  const ballot = { id, says, digest, via, ...comment }
  await castVote(act, { standing, caller }, ballot, await now())
}

/**
 * A person who came by a channel, as a caller of the API.
 * @throws Problem when they are locked out
 */
export async function callerOf(
  sql: Sql,
  standing: Standing,
  { person, channel }: Pick<ChannelVote, 'person' | 'channel'>,
): Promise<Caller> {
  const isTheirs = ({ principal }: { principal: string }) => personBehind(standing, principal) === person
  if ((await listLocks(sql)).some(lock => lock.locked && isTheirs(lock))) {
    throw new Problem(403, 'locked', `${person} is locked`)
  }
  const tokens = await sql<{ principal: string; roles: Role[] }[]>`
    select principal, roles from control.token where revoked is null and expires > now()`
  const roles = [...new Set(tokens.filter(isTheirs).flatMap(token => token.roles))]
  return { principal: person, roles, token: { id: `channel:${channel}`, expires: 0 } }
}

/** What somebody is told whom the gate cannot tell. */
export const UNKNOWN =
  'The gate does not know who you are here, so this changes nothing. Ask an administrator to map your account.'
