import type { HostHookSettings } from '../../config/hooks.ts'
import { identify, mayAsk, waitingRules } from '../../config/policy/govern.ts'
import type { Policy, Rule } from '../../config/policy.ts'
import { Problem } from '../api/problem.ts'
import { carry } from '../decide.ts'
import { fileRequest } from '../file.ts'
import { onCallNow } from '../oncall.ts'
import type { Standing } from '../policy.ts'
import type { Act, Change } from '../register/act.ts'
import { findLock } from '../register/locks.ts'
import { lockRequest } from '../register/requests.ts'
import { next } from '../request.ts'
import { kindOf } from '../voter.ts'
import type { Happening } from './happening.ts'

/**
 * What hosts say began opens what the policy's rules for it say, and what is over ends it. A host decides nothing: it can only
 * make a request in the name of somebody whom the settings know by the host's number for them.
 */

/** Older news open nothing: the hosts sign no time of their own, but what they sign says when it began. */
const STALE_MILLISECONDS = 3_600_000
const AHEAD_MILLISECONDS = 300_000
const COMMIT_CHARACTERS_SHOWN = 12
/** Longer than the longest window. */
const REMEMBERED_MILLISECONDS = 100 * 86_400_000

export interface Triggering {
  readonly act: Act
  readonly standing: () => Standing
  readonly now: () => Promise<number>
}

interface Told {
  readonly hook: HostHookSettings
  readonly delivery: string
  readonly happening: Happening
}

export async function trigger(to: Triggering, told: Told): Promise<void> {
  const standing = to.standing()
  const waits = standing.kind === 'policy' && standing.policy.rules.some(({ events }) => events !== undefined)
  if (told.happening.phase === 'over') await end(to, waits, told)
  else if (waits) await open(to, { standing, policy: standing.policy }, told)
}

/** Once for each run: what is told again, or after it was over, is passed over in silence. */
async function open(
  { act, now }: Triggering,
  by: { readonly standing: Standing; readonly policy: Policy },
  told: Told,
): Promise<void> {
  const at = await now()
  const rules = waitingRules(by.policy, repositoryOf(told), told.happening.event)
  const principal = told.hook.actors.get(told.happening.actor.id)
  try {
    await act(async change => {
      if (!(await begin(change, told, at)) || rules.length === 0) return
      await ask(change, { ...by, rules, principal, at }, told)
    })
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    // What it began to write is taken back, so that it is written down once more as what opened nothing.
    await act(async change => {
      if (!(await begin(change, told, at))) return
      const who = principal === undefined ? {} : { principal }
      change.record({ kind: 'trigger.refused', ...facts(told), ...who, reason: error.message })
    })
  }
}

/** Makes the request that the first rule for this actor is about. @throws Problem where it opens nothing */
async function ask(
  change: Change,
  by: {
    readonly standing: Standing
    readonly policy: Policy
    readonly rules: readonly Rule[]
    readonly principal: string | undefined
    readonly at: number
  },
  told: Told,
): Promise<void> {
  const { standing, policy, rules, principal, at } = by
  const { hook, happening } = told
  const { event, actor } = happening
  if (principal === undefined)
    throw refused(`${hook.name} has no principal for ${actor.login}; add ${actor.id} to its actors`)
  const why = whyNot(happening, at) ?? (await whyOver(change, told, rules))
  if (why !== undefined) throw refused(why)
  if ((await findLock(change.sql, principal))?.locked) throw refused(`${principal} is locked`)
  const who = identify(policy, { principal, kind: kindOf(principal), groups: [] })
  const rule = rules.find(one => mayAsk(one.who, who, { onCall: onCallNow(standing, at) }))
  if (rule === undefined) throw refused(`no rule that waits for this names ${principal}`)
  if (rule.refs.length === 0 && event.ref === undefined)
    throw refused(`the host does not say of which branch it is, and rule "${rule.name}" names no refs`)

  const wish = {
    repository: repositoryOf(told),
    actions: [...rule.actions],
    refs: rule.refs.length === 0 && event.ref !== undefined ? [event.ref] : rule.refs,
    reason: `${sayEvent(happening)}, says ${hook.name}`,
    event,
  }
  // All in the commit of the run itself: a window whose run is not known could not be ended by it.
  const here: Act = async make => await make(change)
  const from = { standing, caller: { principal, roles: [] }, address: undefined }
  const { found, filed } = await fileRequest(here, from, wish, at)
  const request = found.request.id
  if (filed !== 'new') throw refused(`${principal} asked for the same already, in ${request}`)
  await change.sql`
    update control.run set request = ${request}, until = ${rule.until ?? null}
    where hook = ${hook.name} and run = ${happening.run}`
  change.record({ kind: 'trigger.fired', ...facts(told), principal, request, rule: rule.name })
}

function whyNot({ at: began }: Happening, now: number): string | undefined {
  if (began < now - STALE_MILLISECONDS) return `it began at ${new Date(began).toISOString()}, which is long ago`
  return began > now + AHEAD_MILLISECONDS ? `it begins at ${new Date(began).toISOString()}, says the host` : undefined
}

/** News that overtook other news. */
async function whyOver({ sql }: Change, told: Told, rules: readonly Rule[]): Promise<string | undefined> {
  const { hook, happening } = told
  const { pipeline, commit, event } = happening
  if (pipeline !== undefined) {
    const [row] = await sql<{ ended: Date | null }[]>`
      select ended from control.run where hook = ${hook.name} and run = ${pipeline}`
    // Only of pipelines is it known whose code they run, and a fork's branch may have any name.
    if (row === undefined) return 'its pipeline is not known to run what is in the repository itself'
    if (row.ended !== null) return 'its pipeline is over'
  }
  if (event.kind !== 'merge' || commit === undefined) return undefined
  const over = await sql<{ name: string | null }[]>`
    select name from control.run
    where hook = ${hook.name} and repository = ${repositoryOf(told)} and starts_with(commit, ${commit}) and kind = 'pipeline'
      and ended is not null`
  const ends = over.some(({ name }) => rules.some(({ until }) => until === undefined || until === name))
  return ends ? 'the pipeline of its commit is over' : undefined
}

/** @param waits whether any rule waits for events; otherwise only what stands has to be found */
async function end({ act, now }: Triggering, waits: boolean, told: Told): Promise<void> {
  const { hook, happening } = told
  const { run, event, commit = '' } = happening
  const at = await now()
  await act(async change => {
    if (waits) await begin(change, told, at)
    const rows = await change.sql<{ run: string; request: string | null }[]>`
      update control.run set ended = ${new Date(at)}
      where hook = ${hook.name} and ended is null and (
        run = ${run}
        or ${event.kind === 'pipeline'} and (
          pipeline = ${run}
          or kind = 'merge' and repository = ${repositoryOf(told)} and starts_with(${commit}, commit)
            and (until is null or until = ${event.name ?? ''})))
      returning run, request`
    for (const { request } of rows) if (request !== null) await endRequest(change, request, told, at)
  })
}

/** What was only asked for is taken back, and what it opened is ended. */
async function endRequest(change: Change, id: string, told: Told, at: number): Promise<void> {
  const before = await lockRequest(change, id)
  const [person = ''] = before?.request.involved ?? []
  if (before === undefined) return
  const pending = before.request.state === 'requested'
  const { request: after, refused: nothing } = next(
    before.request,
    pending ? { kind: 'withdraw', at, person } : { kind: 'revoke', at },
  )
  if (nothing !== undefined) return
  const by = `hook:${told.hook.name}`
  const reason = `${sayEvent(told.happening)}, says ${told.hook.name}`
  await carry(change, { before, after, by, person, step: pending ? 'withdraw' : 'tick', reason, now: at })
  change.record({ kind: 'trigger.ended', ...facts(told), principal: before.request.asked.principal, request: id })
}

/** Writes the run down; false: it is known already. Until the commit nobody else says anything of this repository. */
async function begin({ sql }: Change, told: Told, at: number): Promise<boolean> {
  const { hook, happening } = told
  const { run, event, commit, pipeline } = happening
  const repository = repositoryOf(told)
  await sql`select pg_advisory_xact_lock(hashtextextended(${`run ${hook.name} ${repository}`}, 0))`
  await sql`delete from control.run where at < ${new Date(at - REMEMBERED_MILLISECONDS)}`
  const { count } = await sql`
    insert into control.run (hook, run, kind, repository, commit, name, pipeline, at)
    values (${hook.name}, ${run}, ${event.kind}, ${repository}, ${commit ?? null}, ${event.name ?? null},
      ${pipeline ?? null}, ${new Date(at)})
    on conflict do nothing`
  return count > 0
}

const repositoryOf = ({ hook, happening }: Told) => `${hook.upstream}/${happening.repository}`
const refused = (why: string) => new Problem(403, 'trigger', why)

function facts({ hook, delivery, happening }: Told) {
  const { actor, event, run, commit } = happening
  return {
    by: `hook:${hook.name}`,
    event: event.kind,
    run,
    repository: `${hook.upstream}/${happening.repository}`,
    ...(commit !== undefined && { commit }),
    delivery,
    actor: `${actor.login} ${actor.id}`,
  }
}

/** `pipeline deploy on refs/heads/main of acme/api began for c4295bd74fb0 (pipeline/1/1)` */
function sayEvent({ event, repository, run, phase, commit }: Happening): string {
  const { kind, name, ref } = event
  const what = [kind, ...(name === undefined ? [] : [name]), ...(ref === undefined ? [] : ['on', ref])].join(' ')
  const says = phase === 'over' ? 'is over' : kind === 'merge' ? 'was merged' : 'began'
  const of =
    commit === undefined ? '' : ` ${kind === 'merge' ? 'as' : 'for'} ${commit.slice(0, COMMIT_CHARACTERS_SHOWN)}`
  return `${what} of ${repository} ${says}${of} (${run})`
}
