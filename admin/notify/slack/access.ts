import type { Sql } from 'postgres'
import { ACTIONS, type Action } from '../../../grant/grant.ts'
import { ACCESS, type Caller } from '../../api/access.ts'
import { Problem } from '../../api/problem.ts'
import { wish, wishOf } from '../../api/requests.ts'
import { fileRequest } from '../../file.ts'
import { listRequests, type RegisteredRequest } from '../../register/requests.ts'
import { kindOf, personBehind } from '../../voter.ts'
import { callerOf, type Deciding } from '../vote.ts'

/**
 * What somebody typed behind `/access`: the options of `git access request`, or nothing for a list. Who asks is the person whom
 * Slack's member stands for; what they may ask for, the policy says as everywhere.
 */

const LISTED_MAX = 10
const LOOKED_THROUGH_MAX = 500
const FLAGS = ['push', 'fetch', 'force', 'delete', 'tag', 'archive', 'break-glass'] as const
const VALUES = ['ref', 'for', 'reason', 'ticket'] as const
const USAGE = `/access lists your requests; /access request REPOSITORY --push|--fetch|--force|--delete|--tag|--archive [--ref PATTERN] [--for 2h] [--reason …] [--ticket ID] [--break-glass] asks`

/** Answers in plain text. */
export async function accessCommand(
  deciding: Deciding,
  { person, channel, text }: { readonly person: string; readonly channel: string; readonly text: string },
): Promise<string> {
  const [verb = 'list', ...words] = text.split(/\s+/).filter(word => word !== '')
  if (verb === 'list' && words.length === 0) return await listOf(deciding, person)
  if (verb !== 'request') return USAGE
  try {
    return await ask(deciding, { person, channel, words })
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    return error.hint === undefined ? `${error.message}.` : `${error.message}; ${error.hint}.`
  }
}

async function listOf({ sql, policy }: Deciding, person: string): Promise<string> {
  const standing = policy.standing()
  const found = await listRequests(sql, { limit: LOOKED_THROUGH_MAX })
  const own = found.filter(({ request }) => personBehind(standing, request.asked.principal) === person)
  const lines = own.slice(0, LISTED_MAX).map(lineOf)
  return lines.length === 0 ? `You have no requests. ${USAGE}` : `Your last requests:\n${lines.join('\n')}`
}

function lineOf({ request, grants }: RegisteredRequest): string {
  const where = request.asked.targets.map(({ repository }) => repository).join(', ')
  const open = grants.find(({ ended }) => ended === undefined)
  const until = open === undefined ? '' : `  to ${new Date(open.expires).toISOString()}`
  return `${request.id}  ${request.state}  ${where}${until}`
}

async function ask(
  deciding: Deciding,
  { person, channel, words }: { readonly person: string; readonly channel: string; readonly words: readonly string[] },
): Promise<string> {
  const { sql, act, policy, now } = deciding
  const asked = wish.safeParse(bodyOf(words))
  if (!asked.success) {
    const [fault] = asked.error.issues
    throw new Problem(400, 'invalid', `${fault?.path.join('.') ?? ''}: ${fault?.message ?? ''}`, USAGE)
  }
  const standing = policy.standing()
  const known = await callerOf(sql, standing, { person, channel })
  const name = await nameOf(sql, principal => {
    // A machine asks for itself, whoever owns it.
    return kindOf(principal) === 'person' && personBehind(standing, principal) === person
  })
  if (name === undefined) {
    throw new Problem(403, 'role', 'the gate knows no sign-in, token or key by which you may ask', 'git access login')
  }
  const caller: Caller = { ...known, ...name }
  const at = await now()
  const { found, filed } = await fileRequest(
    act,
    { standing, caller, address: undefined, via: 'slack' },
    wishOf(asked.data, at),
    at,
  )
  const { id, state } = found.request
  const again = filed === 'same' ? ' already' : ''
  return state === 'requested' ? `${id} waits for approval${again}.` : lineOf(found)
}

/**
 * Under which of their names a person asks: a window is one name's, so it is the one they showed the gate last. What the identity
 * provider said of groups then still holds; that a second factor was shown there says nothing about who is in Slack now.
 */
async function nameOf(
  sql: Sql,
  isTheirs: (principal: string) => boolean,
): Promise<Pick<Caller, 'principal' | 'roles' | 'groups'> | undefined> {
  const may = [...(ACCESS['POST /requests'] ?? [])]
  const names = await sql<{ principal: string; roles: Caller['roles']; groups: string[] }[]>`
    select principal, roles, groups, made from control.signin where ended is null and expires > now() and roles && ${may}
    union all
    select principal, roles, '{}', created from control.token where revoked is null and expires > now() and roles && ${may}
    union all
    select principal, '{developer}', '{}', created from control.key where revoked is null and expires > now()
    order by made desc`
  return names.find(({ principal }) => isTheirs(principal))
}

/** The body of `POST /requests` that these words stand for. */
function bodyOf(words: readonly string[]): object {
  const given = new Map<string, string[]>([['', []]])
  let option = ''
  for (const word of words) {
    // Slack's clients make one long dash of two short ones.
    const [, name] = /^(?:--|—)([a-z-]+)$/.exec(word) ?? []
    if (name === undefined) given.get(option)?.push(word)
    else {
      if (![...FLAGS, ...VALUES].some(known => known === name)) {
        throw new Problem(400, 'invalid', `there is no --${name}`, USAGE)
      }
      // What follows a flag is no value of its.
      option = VALUES.some(known => known === name) ? name : ''
      given.set(name, given.get(name) ?? [])
    }
  }
  const value = (name: (typeof VALUES)[number]) => given.get(name)?.join(' ')
  const refs = (value('ref') ?? '').split(/[\s,]+/).filter(ref => ref !== '')
  const [repository, ...more] = given.get('') ?? []
  if (repository === undefined || more.length > 0) {
    throw new Problem(400, 'invalid', 'name one repository: <upstream>/<path>', USAGE)
  }
  return {
    repository: repository.replace(/\.git$/, ''),
    actions: actionsOf(given, refs),
    refs,
    for: value('for'),
    reason: value('reason'),
    ticket: value('ticket'),
    ...(given.has('break-glass') && { break_glass: true }),
  }
}

function actionsOf(given: ReadonlyMap<string, unknown>, refs: readonly string[]): Action[] {
  const tags = refs.filter(ref => ref.startsWith('refs/tags/'))
  const branches = refs.length === 0 || tags.length < refs.length
  const asked = new Set<string>(given.keys())
  if (given.has('push') && branches) asked.add('create').add('update')
  if (given.has('push') && tags.length > 0) asked.add('tag')
  return ACTIONS.filter(action => asked.has(action))
}
