import { z } from 'zod'
import { describeApprovers, describePlan } from '../../config/policy/approvers.ts'
import { describeHours } from '../../config/policy/hours.ts'
import { writeDuration } from '../../config/units.ts'
import { tally, whyNoVote } from '../approval.ts'
import type { AskedFor } from '../asked.ts'
import type { Standing } from '../policy.ts'
import type { RegisteredRequest } from '../register/requests.ts'
import { ballotOf, escalatesAt, next } from '../request.ts'
import { voterOf, withInvolved } from '../voter.ts'
import type { Caller } from './access.ts'
import { action, iso, paths, pathsOf } from './fields.ts'

/** A request as the API shows it, and to whom. */

export const STATES = ['requested', 'approved', 'denied', 'withdrawn', 'lapsed'] as const
const target = z.object({ repository: z.string(), actions: z.array(action), refs: z.array(z.string()) })

export const requestView = z.object({
  id: z.string(),
  state: z.enum(STATES),
  principal: z.string(),
  requester: z.string(),
  ...target.partial().shape,
  targets: z.array(target).describe('all of it, decided as one; where it is one alone, it stands beside this as well'),
  paths: paths.optional().describe('a push changes only what each of these lists allows'),
  for: z.string(),
  recurring: z.string().optional().describe('the hours, where there is a window each time they come'),
  starts_at: z.string().optional(),
  reason: z.string(),
  ticket: z.string().optional(),
  break_glass: z.boolean().optional(),
  extends: z.string().optional().describe('the request whose window it makes longer'),
  digest: z.string().describe('of exactly this; a vote carries it'),
  policy: z.string(),
  rules: z.array(z.string()),
  approvers: z.string().describe('who has to approve'),
  waiting_for: z.string().optional().describe('who is to be asked now'),
  votes: z.array(
    z.object({
      by: z.string(),
      says: z.enum(['approve', 'deny']),
      at: z.string(),
      comment: z.string().optional(),
      via: z.string().optional().describe('by which way it came: slack, email, teams, ssh, cli, api'),
    }),
  ),
  made_at: z.string(),
  lapses_at: z.string(),
  escalates: z
    .object({ at: z.string(), to: z.string() })
    .optional()
    .describe('when nobody has decided by then, these are asked as well'),
  may_decide: z.boolean().describe('whether you have a vote'),
  review: z.object({ state: z.string(), due_at: z.string() }).optional(),
  grants: z.array(z.object({ id: z.string(), state: z.string(), starts_at: z.string(), expires_at: z.string() })),
})

/** Whether the gate acts on it already. False: it is durable, and will as soon as Redis answers. */
export const enactedView = requestView.extend({ enacted: z.boolean() })

/** Whether the gate has something to do because of what was decided. */
export const changesTheGate = ({ request, grants }: RegisteredRequest): boolean =>
  grants.length > 0 || (request.state === 'approved' && request.asked.extends !== undefined)

export const isOwn = ({ request }: RegisteredRequest, { principal }: Caller) =>
  request.asked.principal === principal || request.asked.requester === principal

export function isVisible(found: RegisteredRequest, standing: Standing, caller: Caller, now: number): boolean {
  if (caller.roles.includes('auditor') || caller.roles.includes('admin') || isOwn(found, caller)) return true
  return mayDecide(found, standing, caller, now)
}

function mayDecide({ request }: RegisteredRequest, standing: Standing, caller: Caller, now: number): boolean {
  if (caller.token === undefined || !caller.roles.some(role => role === 'approver' || role === 'admin')) return false
  const settled = next(withInvolved(standing, request), { kind: 'tick', at: now }).request
  return whyNoVote(ballotOf(settled), voterOf(standing, caller, now)) === undefined
}

export const recurrence = ({ recurring }: AskedFor): { readonly recurring?: string } =>
  recurring === undefined ? {} : { recurring: describeHours(recurring) }

export function view(
  found: RegisteredRequest,
  standing: Standing,
  caller: Caller,
  now: number,
): z.infer<typeof requestView> {
  const { request } = next(found.request, { kind: 'tick', at: now })
  const { asked, conditions, review } = request
  const targets = asked.targets.map(({ repository, actions, refs }) => {
    return { repository, actions: [...actions], refs: [...refs] }
  })
  // Of several, the first alone would look like all of it to whoever decides.
  const only = targets.length === 1 ? targets[0] : undefined
  const escalates = request.state === 'requested' ? escalatesAt(request) : undefined
  const { waitingFor } = tally(ballotOf(request), request.votes)
  return {
    id: request.id,
    state: request.state,
    principal: asked.principal,
    requester: asked.requester,
    ...only,
    targets,
    ...pathsOf(conditions.bounds),
    for: writeDuration(asked.window),
    ...recurrence(asked),
    ...(asked.starts !== undefined && { starts_at: iso(asked.starts) }),
    reason: asked.reason,
    ...(asked.ticket !== undefined && { ticket: asked.ticket }),
    ...(asked.breakGlass && { break_glass: true }),
    ...(asked.extends !== undefined && { extends: asked.extends }),
    digest: request.digest,
    policy: conditions.policy,
    rules: [...conditions.rules],
    approvers: conditions.immediate ?? describePlan(conditions.plan),
    ...(request.state === 'requested' && { waiting_for: describePlan({ steps: [{ slots: waitingFor }] }) }),
    votes: [...request.votes, ...(review?.votes ?? [])].map(({ voter, says, at, comment, via }) => {
      return { by: voter.principal, says, at: iso(at), ...(comment !== undefined && { comment }), ...(via && { via }) }
    }),
    made_at: iso(request.made),
    lapses_at: iso(request.lapses),
    ...(escalates !== undefined && {
      escalates: { at: iso(escalates), to: describeApprovers(conditions.escalation?.to ?? []) },
    }),
    may_decide: mayDecide(found, standing, caller, now),
    ...(review && { review: { state: review.state, due_at: iso(review.due) } }),
    grants: found.grants.map(({ id, starts, expires }, index) => {
      return { id, state: request.windows[index]?.state ?? 'expired', starts_at: iso(starts), expires_at: iso(expires) }
    }),
  }
}
