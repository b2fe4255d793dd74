import type { Command } from 'commander'
import { type Client, query } from '../client.ts'
import { asking, type Common, gate } from '../command.ts'
import { CommandError, EXIT, hint, json, say } from '../say.ts'
import { pathOf, type Request, requestTable, sayAsked, sayOutcome } from './request.ts'

const LOOK_MILLISECONDS = 2_000
/** As many as one answer has. */
const LISTED_MAX = 500

/** `git access pending`: what waits for one's own decision; with `--watch` as it comes. */
export function pendingCommand(): Command {
  return asking('pending', 'what waits for your decision')
    .option('--watch', 'go on, and show each as it comes and what becomes of it, until Ctrl-C')
    .action(async (options: Common & { watch?: boolean }) => {
      const client = gate(options)
      if (options.watch) return await watch(client, options)
      const requests = await waiting(client)
      if (options.json) return json(requests)
      if (requests.length === 0) say('nothing waits for you')
      requestTable(requests)
    })
}

async function waiting(client: Client): Promise<Request[]> {
  const path = `/requests${query({ state: 'requested', mine: 'false', limit: LISTED_MAX })}`
  const { requests } = await client.call<{ requests: Request[] }>('GET', path)
  return requests.filter(({ may_decide }) => may_decide)
}

/** By id and digest: a request that was changed is another question. */
async function watch(client: Client, options: Common): Promise<void> {
  const shown = new Map<string, Request>()
  let reached = true
  say('watching; Ctrl-C ends it')
  for (;;) {
    try {
      const requests = await waiting(client)
      if (!reached) say('the gate answers again')
      reached = true
      for (const request of requests) {
        if (shown.get(request.id)?.digest === request.digest) continue
        shown.set(request.id, request)
        if (options.json) json(request)
        else sayAsked(request)
        hint(`drawbridge request approve ${request.id}, or deny`)
      }
      const open = new Set(requests.map(({ id }) => id))
      for (const id of shown.keys()) {
        if (open.has(id)) continue
        shown.delete(id)
        sayOutcome(await client.call<Request>('GET', pathOf(id)))
      }
    } catch (error) {
      if (!(error instanceof CommandError) || error.exit !== EXIT.unreachable) throw error
      if (reached) say(`${error.message}; trying again`)
      reached = false
    }
    await new Promise(resolve => setTimeout(resolve, LOOK_MILLISECONDS))
  }
}
