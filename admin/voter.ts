import type { Asker } from '../config/policy/govern.ts'
import { foldIdentity, personOf, standsInFor } from '../config/policy.ts'
import type { Caller } from './api/access.ts'
import type { Authority, Voter } from './approval.ts'
import { onCallNow, schedulesOf } from './oncall.ts'
import { roleGroup, type Standing } from './policy.ts'
import type { Request } from './request.ts'

/** Whom the policy sees behind a caller of the API. */

/** The one person behind a principal, as the policy in force has it. */
export function personBehind(standing: Standing, principal: string): string {
  return standing.kind === 'policy' ? personOf(standing.policy, principal) : foldIdentity(principal)
}

/**
 * The caller as somebody who asks. Groups and second factor are the identity provider's word at the sign-in; of a token that was
 * handed out no second factor is known, so rules that want one refuse it.
 */
export function askerOf(caller: Caller, address: string | undefined): Asker {
  return {
    principal: caller.principal,
    kind: kindOf(caller.principal),
    groups: [...(caller.groups ?? []), ...caller.roles.map(roleGroup)],
    ...(caller.mfa !== undefined && { mfa: caller.mfa }),
    ...(address !== undefined && { address }),
  }
}

/** The caller as somebody who votes at this moment. */
export function voterOf(standing: Standing, caller: Caller, now: number): Voter {
  const person = personBehind(standing, caller.principal)
  const kind = kindOf(caller.principal)
  const onCall = onCallNow(standing, now)
  const delegators = standing.kind === 'policy' ? standsInFor(standing.policy, person, now) : []
  return {
    principal: caller.principal,
    kind,
    person,
    // A machine is not its owner, and is in none of the owner's groups.
    groups: [
      ...(kind === 'person' ? [...groupsOf(standing, person), ...(caller.groups ?? [])] : []),
      ...caller.roles.map(roleGroup),
    ],
    // A machine is on call as little as it is in a group.
    onCall: kind === 'person' ? schedulesOf(onCall, person) : [],
    standsInFor: delegators.map((lender): Authority => {
      return { person: lender, groups: groupsOf(standing, lender), onCall: schedulesOf(onCall, lender) }
    }),
  }
}

/**
 * The request with everybody who is involved by today's policy as well: an account that was found to be the requester's own
 * after the request was made approves nothing.
 *
 * @param owner who answers for the principal, where it is a service account
 */
export function withInvolved(standing: Standing, request: Request, owner?: string): Request {
  const { principal, requester } = request.asked
  const names = [principal, requester, ...(owner === undefined ? [] : [owner])]
  const persons = names.map(name => personBehind(standing, name))
  return { ...request, involved: [...new Set([...request.involved, ...persons])] }
}

const groupsOf = (standing: Standing, person: string): string[] =>
  standing.kind === 'policy' ? [...(standing.policy.people.groups.get(person) ?? [])] : []

/** Names of machines say that they are: `ci:…` and `service:…`. */
export const kindOf = (principal: string): Asker['kind'] =>
  /^ci:/i.test(principal) ? 'ci' : /^service:/i.test(principal) ? 'service' : 'person'
