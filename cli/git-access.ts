#!/usr/bin/env node
import { Command } from 'commander'
import { loginCommand, logoutCommand } from './access/login.ts'
import { pendingCommand } from './access/pending.ts'
import { pathOf, type Request, requestTable, sayOutcome, showRequest, untilDecided } from './access/request.ts'
import { type RunOptions, run } from './access/run.ts'
import { setupCommand } from './access/setup.ts'
import { completeBody, partsOf, sendWish, type Wish, wishing } from './access/wish.ts'
import { candidatesCommand } from './candidates.ts'
import { type Client, query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, wholeNumber } from './command.ts'
import { commentCommand, showComments } from './comment.ts'
import { completionCommand } from './completion.ts'
import { runCommand, version } from './run.ts'
import { CommandError, data, EXIT, json, say, table, when } from './say.ts'
import { whoamiCommand } from './whoami.ts'

const HELP_AFTER = `
Where the gate is and who asks: what \`git access login\` left, or DRAWBRIDGE_URL, and DRAWBRIDGE_TOKEN_FILE or DRAWBRIDGE_TOKEN.

Exit status: 0 done, or approved; 1 refused, denied, withdrawn or lapsed; 2 not understood; 3 unreachable; 4 not allowed;
5 not decided yet.`

/**
 * `git access`: what a developer types.
 * @param and what was typed behind each `--and`
 */
export function gitAccess(and: readonly (readonly string[])[] = []): Command {
  const program = new Command('git-access')
    .description('windows in the gate in front of your Git hosts: ask for one, wait for it, give it back')
    .version(version(), '-V, --version')
    .addHelpText('after', HELP_AFTER)
    .addCommand(requestCommand(and))
    .addCommand(statusCommand())
    .addCommand(waitCommand())
    .addCommand(runningCommand())
    .addCommand(extendCommand())
    .addCommand(pendingCommand())
    .addCommand(releaseCommand())
    .addCommand(withdrawCommand())
    .addCommand(commentCommand())
    .addCommand(explainCommand(and))
    .addCommand(loginCommand())
    .addCommand(logoutCommand())
    .addCommand(setupCommand())
    .addCommand(whoamiCommand())
  return program.addCommand(completionCommand(program)).addCommand(candidatesCommand(), { hidden: true })
}

const requesting = () =>
  wishing(asking('request', 'ask for a window, or for several as one')).option(
    '--wait',
    'until it is decided; Ctrl-C leaves the request standing',
  )

function requestCommand(and: readonly (readonly string[])[]): Command {
  return requesting().action(async (repositories: string[], given: Wish) => {
    const { body, options } = await completeBody({ repositories, options: given }, and, requesting)
    await askFor('/requests', body, options)
  })
}

function extendCommand(): Command {
  return asking('extend', 'ask for more time in a window of yours, before it ends')
    .argument('<id>', 'r-…, or g-… of a window you asked for')
    .requiredOption('--for <duration>', 'how long from the approval on: 30m, 2h')
    .option('--reason <text>', 'why; as before, if left out')
    .option('--ticket <id>', 'what it belongs to; as before, if left out')
    .option('--wait', 'until it is decided; Ctrl-C leaves the request standing')
    .action(async (id: string, options: Wish & { wait?: boolean }) => {
      const request = id.startsWith('g-') ? await requestOf(gate(options), id) : id
      const { for: length, reason, ticket } = options
      await askFor(`${pathOf(request)}/extend`, { for: length, reason, ticket }, options)
    })
}

async function askFor(path: string, body: object, options: Common & { readonly wait?: boolean }): Promise<void> {
  const client = gate(options)
  let request = await sendWish<Request>(client, path, body)
  if (options.wait && request.state === 'requested') {
    sayOutcome(request)
    request = await untilDecided(client, request.id)
  }
  if (options.json) json(request)
  else data(request.id)
  sayOutcome(request)
  sayUnlessEnacted(request)
  if (options.wait) process.exitCode = statusOf(request)
}

async function requestOf(client: Client, grant: string): Promise<string> {
  const { request } = await client.call<{ request?: string }>('GET', `/grants/${encodeURIComponent(grant)}`)
  if (request !== undefined) return request
  throw new CommandError(EXIT.failed, `${grant} was not asked for`, 'whoever issued it can extend it')
}

interface Grant {
  readonly id: string
  readonly repository: string
  readonly actions: readonly string[]
  readonly refs: readonly string[]
  readonly state: string
  readonly expires_at: string
  readonly reason: string
}

function statusCommand(): Command {
  return asking('status', 'what you have asked for and what is open; or one request')
    .argument('[id]', 'r-…')
    .option('--all', 'also what is over, the newest first')
    .action(async (id: string | undefined, options: Common & { all?: boolean }) => {
      const client = gate(options)
      if (id !== undefined) {
        const request = await client.call<Request>('GET', pathOf(id))
        if (options.json) return json(request)
        showRequest(request)
        return await showComments(client, id)
      }
      const me = await client.call<{ principal: string }>('GET', '/whoami')
      const mine = query({ principal: me.principal, open: options.all ? undefined : true })
      const asked = query({ mine: true, state: options.all ? undefined : 'requested' })
      const { grants } = await client.call<{ grants: Grant[] }>('GET', `/grants${mine}`)
      const { requests } = await client.call<{ requests: Request[] }>('GET', `/requests${asked}`)
      if (options.json) return json({ grants, requests })
      if (grants.length + requests.length === 0) return say('nothing is open and nothing is asked for')
      table(
        ['GRANT', 'REPOSITORY', 'ACTIONS', 'REFS', 'STATE', 'UNTIL', 'REASON'],
        grants.map(grant => [
          grant.id,
          grant.repository,
          grant.actions.join(','),
          grant.refs.join(',') || '*',
          grant.state,
          when(grant.expires_at),
          grant.reason,
        ]),
      )
      requestTable(requests)
    })
}

function waitCommand(): Command {
  return asking('wait', 'until a request is decided and the gate acts on it')
    .argument('<id>', 'r-…')
    .option('--timeout <seconds>', 'no longer than this; exit status 5 then', wholeNumber)
    .action(async (id: string, options: Common & { timeout?: number }) => {
      const until = options.timeout === undefined ? undefined : performance.now() + options.timeout * 1000
      const request = await untilDecided(gate(options), id, until)
      if (options.json) json(request)
      sayOutcome(request)
      process.exitCode = statusOf(request)
    })
}

function runningCommand(): Command {
  return asking('run', 'run a command; where the gate refuses it, ask for what is missing, wait, and run it again')
    .argument('<command...>', 'behind --: git push origin main')
    .option('--for <duration>', 'how long, if it has to be asked for')
    .option('--reason <text>', 'why')
    .option('--ticket <id>', 'what it belongs to')
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await run(command, options)
    })
}

function releaseCommand(): Command {
  return asking('release', 'end windows of your own: at the end of the work')
    .argument('<id...>', 'g-…, or r-… for all windows of a request')
    .option('--reason <text>')
    .action(async (ids: string[], options: Common & { reason?: string }) => {
      const client = gate(options)
      for (const id of ids) {
        for (const grant of id.startsWith('r-') ? await standingOf(client, id) : [id]) {
          const path = `/grants/${encodeURIComponent(grant)}/release`
          const released = await client.call<Grant & { enacted?: boolean }>('POST', path, { reason: options.reason })
          if (options.json) json(released)
          say(`${grant} is over`)
          sayUnlessEnacted(released)
        }
      }
    })
}

async function standingOf(client: Client, id: string): Promise<string[]> {
  const { grants } = await client.call<Request>('GET', pathOf(id))
  const standing = grants.filter(({ state }) => state === 'live' || state === 'scheduled').map(grant => grant.id)
  if (standing.length === 0) throw new CommandError(EXIT.failed, `${id} has no window that stands`)
  return standing
}

function withdrawCommand(): Command {
  return asking('withdraw', 'take a request back, and the windows it opened')
    .argument('<id...>', 'r-…')
    .option('--reason <text>')
    .action(async (ids: string[], options: Common & { reason?: string }) => {
      for (const id of ids) {
        const { reason } = options
        const request = await gate(options).call<Request>('POST', `${pathOf(id)}/withdraw`, { reason })
        if (options.json) json(request)
        say(`${id} is withdrawn`)
        sayUnlessEnacted(request)
      }
    })
}

interface Prospect {
  readonly possible: boolean
  readonly policy?: string
  readonly rules: readonly string[]
  readonly for?: string
  readonly way?: string
  readonly reason?: string
}

const explaining = () => wishing(asking('explain', 'what would come of asking; nothing is asked for'))

function explainCommand(and: readonly (readonly string[])[]): Command {
  return explaining().action(async (repositories: string[], given: Wish) => {
    const { body, options } = await completeBody({ repositories, options: given }, and, explaining)
    const prospect = await sendWish<Prospect>(gate(options), '/requests/explain', body)
    if (!prospect.possible) process.exitCode = EXIT.failed
    if (options.json) return json(prospect)
    const rule = prospect.rules.length === 0 ? '' : ` (rule ${prospect.rules.join(', ')})`
    data(prospect.possible ? `${prospect.for}, ${prospect.way}${rule}` : `no${rule}: ${prospect.reason}`)
  })
}

const UNDECIDED = 5

function statusOf({ state }: Request): number {
  return state === 'approved' ? EXIT.ok : state === 'requested' ? UNDECIDED : EXIT.failed
}

/** @returns the exit status */
export function main(args: readonly string[]): Promise<number> {
  const [first = [], ...and] = args[0] === 'request' || args[0] === 'explain' ? partsOf(args) : [args]
  return runCommand(gitAccess(and), first)
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
