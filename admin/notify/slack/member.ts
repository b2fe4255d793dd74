import type { WebClient } from '@slack/web-api'
import { personBehind } from '../../voter.ts'
import type { Refuse } from '../refusals.ts'
import type { Deciding } from '../vote.ts'

/**
 * The person behind a member of the workspace; nobody, with the reason on record, where that cannot be told. `address` is where the
 * message came from.
 */
export type PersonOf = (member: string, team: string, address: string | undefined) => Promise<string | undefined>

/**
 * Whom the settings name for a member, else whoever has the member's address, where Slack has confirmed it. Bots, people of other
 * workspaces and those who left are nobody.
 */
export function createMembers(options: {
  readonly channel: string
  readonly people: ReadonlyMap<string, { readonly slack?: string | undefined }>
  readonly web: WebClient
  readonly policy: Deciding['policy']
  readonly refuse: Refuse
}): PersonOf {
  const { channel, people, web, policy, refuse } = options
  let workspace: Promise<string | undefined> | undefined

  /** Of the token, for as long as there is one. */
  function ownWorkspace(): Promise<string | undefined> {
    workspace ??= web.auth.test().then(({ team_id }) => team_id)
    workspace.catch(() => {
      workspace = undefined
    })
    return workspace
  }

  return async (member, team, address) => {
    const nobody = async (code: string, reason: string) => {
      await refuse({ channel, code, reason, address, claimed: member })
      return undefined
    }
    const standing = policy.standing()
    const own = await ownWorkspace()
    if (team !== own) return await nobody('workspace', 'a member of another workspace')
    const { user: found } = await web.users.info({ user: member })
    if (found === undefined || found.deleted || found.is_bot || found.team_id !== own) {
      return await nobody('member', 'no person of this workspace')
    }
    const named = [...people].find(([, { slack }]) => slack === member)?.[0]
    if (named !== undefined) return personBehind(standing, named)
    const email = found.profile?.email
    if (email === undefined || !found.is_email_confirmed) return await nobody('address', 'no confirmed address')
    return personBehind(standing, email)
  }
}
