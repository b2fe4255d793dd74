import type { Log } from '../audit/emit.ts'
import { newId } from '../audit/id.ts'
import { loadPolicy } from '../config/policy/load.ts'
import type { PolicyRepository } from '../config/policyrepository.ts'
import type { Store } from '../grant/store.ts'
import type { Control } from './api/control.ts'
import type { Enact } from './enact.ts'
import type { PolicyInForce } from './policy.ts'
import { openPolicyCheckout } from './policycheckout.ts'
import type { Act } from './register/act.ts'
import { writeGrant } from './register/grants.ts'

/**
 * A policy out of a Git repository, read through the gate like any other: under a window, on record, by the gate's own
 * principal. What the branch says is taken over as a whole or not at all; what does not load or cannot be read changes nothing.
 */
export interface FollowedPolicy {
  /** Looks now. */
  sync(): Promise<void>
  close(): Promise<void>
}

/** Whom the gate reads its policy as. Lock it, and the policy in force stays. */
const POLICY_READER = 'service:policy'
const WINDOW_MILLISECONDS = 3_600_000
/** A window that ends sooner than this is not begun to be used. */
const REST_MILLISECONDS = 120_000
const ENACT_MILLISECONDS_MAX = 5_000
/** Until it was read once: the proxies may not be up yet. */
const FIRST_MILLISECONDS = 2_000

export async function followPolicy(options: {
  readonly source: PolicyRepository
  readonly folder: string
  readonly policy: PolicyInForce
  /** Another version is in force. */
  readonly changed: () => Promise<void>
  readonly pass: () => Promise<string>
  readonly log: Log
}): Promise<FollowedPolicy> {
  const { source, folder, policy, changed, pass, log } = options
  const checkout = await openPolicyCheckout(folder, source)
  // What was in force before a restart is so again, before anybody can be asked.
  let known = await checkout.inForce()
  let unread: string | undefined
  if (known === undefined) policy.missing(`${source.repository} has not been read yet`)
  else await take(known)
  let timer: NodeJS.Timeout | undefined
  let closed = false
  let last = Promise.resolve()

  async function take(commit: string): Promise<void> {
    const sources = await checkout.sources(commit)
    const from = `${source.repository} ${commit.slice(0, 12)}`
    if (!(await policy.take(() => loadPolicy(sources), from))) return
    await checkout.putInForce(commit)
    await changed()
  }

  async function look(): Promise<void> {
    if (closed) return
    try {
      const commit = await checkout.fetch(await pass(), known)
      unread = undefined
      if (commit === known) return
      await take(commit)
      // Also one that does not load: it is told once, and looked at again when it is another.
      known = commit
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      if (why !== unread)
        log.warn({ err: error, repository: source.repository }, 'the policy cannot be read; what is in force stays')
      unread = why
    }
  }

  /** One look at a time; a call during one gets the next, since the present one may be past what it is about. */
  function sync(): Promise<void> {
    last = last.then(look).finally(() => {
      clearTimeout(timer)
      const wait = known === undefined ? Math.min(FIRST_MILLISECONDS, source.every) : source.every
      if (!closed) timer = setTimeout(() => void sync(), wait).unref()
    })
    return last
  }

  return {
    sync,
    close: async () => {
      closed = true
      clearTimeout(timer)
      await last
    },
  }
}

/** Tokens for reading the policy: one while its window lasts, which is for this branch of this repository and nothing else. */
export function policyPass(options: {
  readonly source: PolicyRepository
  readonly act: Act
  readonly enact: Pick<Enact, 'settle'>
  readonly store: Pick<Store, 'now'>
  readonly issueToken: Control['issueToken']
}): () => Promise<string> {
  const { source, act, enact, store, issueToken } = options
  let held: { readonly token: string; readonly expires: number } | undefined
  return async () => {
    const now = await store.now()
    if (held && now < held.expires - REST_MILLISECONDS) return held.token
    const expires = now + WINDOW_MILLISECONDS
    const grant = {
      ...{ id: newId('g'), principal: POLICY_READER, repository: source.repository, actions: ['fetch' as const] },
      ...{ refs: [source.ref], starts: now, expires, reason: 'the gate reads its policy' },
    } as const
    await act(async change => await writeGrant(change, grant, 'drawbridge'))
    await enact.settle(ENACT_MILLISECONDS_MAX)
    held = { token: await issueToken({ id: newId('t'), principal: POLICY_READER, roles: [], expires }), expires }
    return held.token
  }
}
