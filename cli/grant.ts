import { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, several, size, wholeNumber } from './command.ts'
import { data, json, say, table, when } from './say.ts'

interface Grant {
  readonly id: string
  readonly principal: string
  readonly repository: string
  readonly actions: readonly string[]
  readonly refs: readonly string[]
  readonly state: string
  readonly starts_at: string
  readonly expires_at: string
  readonly idle?: string
  readonly uses?: number
  readonly uses_left?: number
  readonly paths?: readonly (readonly string[])[]
  readonly bytes?: number
  readonly last_used_at?: string
  readonly reason: string
  readonly issued_at: string
  readonly issued_by: string
  readonly ended?: { readonly at: string; readonly by: string; readonly reason: string }
  readonly enacted?: boolean
}

interface Issue extends Common {
  readonly principal: string
  readonly repository: string
  readonly action: string[]
  readonly ref?: string[]
  readonly for?: string
  readonly until?: string
  readonly from?: string
  readonly idle?: string
  readonly uses?: number
  readonly bytes?: number
  readonly path?: string[]
  readonly reason: string
}

/** `drawbridge grant issue|list|show|revoke|extend|release` */
export function grantCommand(): Command {
  return new Command('grant')
    .description('windows in which somebody may do something')
    .addCommand(
      asking('issue', 'open a window for somebody else')
        .requiredOption('--principal <principal>', 'for whom')
        .requiredOption('--repository <pattern>', '<upstream>/<path>; * within a part, ** across parts')
        .requiredOption(
          '--action <action>',
          'fetch, create, update, force, delete, tag, archive; several with commas',
          several,
        )
        .option('--ref <pattern>', 'main, "release/*", "refs/tags/v*"; every branch and tag, if left out', several)
        .option('--for <duration>', 'how long: 30m, 2h, 1h30m, "2 hours"')
        .option('--until <time>', 'when it ends, instead of --for: 2026-01-31T18:00:00Z')
        .option('--from <time>', 'when it begins; now, if left out')
        .option('--idle <duration>', 'ends it when not used for so long')
        .option('--bytes <size>', 'ends it after so much went by in both directions: 500MB, 2GiB', size)
        .option('--path <pattern>', 'what a push may change: "docs/**", and "!docs/legal" for what not', several)
        .option('--uses <n>', 'ends it after so many packs fetched or pushes landed', wholeNumber)
        .requiredOption('--reason <text>', 'why: a ticket, a sentence')
        .action(async (options: Issue) => {
          const { principal, repository, action: actions, ref: refs, idle, uses, bytes, reason, from, until } = options
          const body = {
            principal,
            repository,
            actions,
            refs,
            idle,
            uses,
            bytes,
            paths: options.path,
            reason,
            for: options.for,
            starts_at: from,
            expires_at: until,
          }
          const grant = await gate(options).call<Grant>('POST', '/grants', body)
          if (options.json) json(grant)
          else data(grant.id)
          say(
            `${grant.principal} may ${grant.actions.join(', ')} on ${grant.repository} until ${when(grant.expires_at)}`,
          )
          sayUnlessEnacted(grant)
        }),
    )
    .addCommand(
      asking('list', 'open windows, the newest first')
        .option('--principal <principal>', 'only of this principal')
        .option('--repository <pattern>', 'only with exactly this repository pattern')
        .option('--all', 'also those that are over')
        .option('--before <id>', 'older than this one: for the next page')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(
          async (
            options: Common & {
              principal?: string
              repository?: string
              all?: boolean
              before?: string
              limit: number
            },
          ) => {
            const { principal, repository, before, limit } = options
            const open = options.all ? undefined : true
            const path = `/grants${query({ principal, repository, before, limit, open })}`
            const { grants } = await gate(options).call<{ grants: Grant[] }>('GET', path)
            if (options.json) return json(grants)
            table(
              ['ID', 'PRINCIPAL', 'REPOSITORY', 'ACTIONS', 'REFS', 'STATE', 'UNTIL', 'REASON'],
              grants.map(grant => [
                grant.id,
                grant.principal,
                grant.repository,
                grant.actions.join(','),
                grant.refs.join(',') || '*',
                grant.state,
                when(grant.ended?.at ?? grant.expires_at),
                grant.reason,
              ]),
            )
          },
        ),
    )
    .addCommand(
      asking('show', 'everything about a grant')
        .argument('<id>', 'g-…')
        .action(async (id: string, options: Common) => {
          const grant = await gate(options).call<Grant>('GET', `/grants/${encodeURIComponent(id)}`)
          if (options.json) return json(grant)
          table(['GRANT', grant.id], facts(grant))
        }),
    )
    .addCommand(
      asking('revoke', 'end windows for good, and cut what runs under them')
        .argument('<id...>', 'g-…')
        .option('--reason <text>', 'said to those who are cut')
        .action(async (ids: string[], options: Common & { reason?: string }) => {
          for (const id of ids) await end(id, 'revoke', options)
        }),
    )
    .addCommand(
      asking('release', 'end a window of your own')
        .argument('<id...>', 'g-…')
        .option('--reason <text>')
        .action(async (ids: string[], options: Common & { reason?: string }) => {
          for (const id of ids) await end(id, 'release', options)
        }),
    )
    .addCommand(
      asking('extend', 'move the end of a window further')
        .argument('<id>', 'g-…')
        .option('--for <duration>', 'by how much')
        .option('--until <time>', 'to when, instead of --for')
        .requiredOption('--reason <text>', 'why')
        .action(async (id: string, options: Common & { for?: string; until?: string; reason: string }) => {
          const body = { for: options.for, expires_at: options.until, reason: options.reason }
          const grant = await gate(options).call<Grant>('POST', `/grants/${encodeURIComponent(id)}/extend`, body)
          if (options.json) json(grant)
          say(`${id} of ${grant.principal} lasts until ${when(grant.expires_at)}`)
          sayUnlessEnacted(grant)
        }),
    )
}

async function end(id: string, how: 'revoke' | 'release', options: Common & { reason?: string }): Promise<void> {
  const { reason } = options
  const grant = await gate(options).call<Grant>('POST', `/grants/${encodeURIComponent(id)}/${how}`, { reason })
  if (options.json) json(grant)
  say(`${id} of ${grant.principal} is over`)
  sayUnlessEnacted(grant)
}

function facts(grant: Grant): [string, string][] {
  const rows: [string, string | undefined][] = [
    ['state', grant.state],
    ['principal', grant.principal],
    ['repository', grant.repository],
    ['actions', grant.actions.join(', ')],
    ['refs', grant.refs.join(', ') || 'every branch and tag'],
    ['window', `${when(grant.starts_at)} to ${when(grant.expires_at)}`],
    ['idle end', grant.idle],
    ['uses', grant.uses === undefined ? undefined : `${grant.uses_left ?? grant.uses} of ${grant.uses} left`],
    ['bytes', grant.bytes === undefined ? undefined : `${grant.bytes} at most`],
    ['paths', grant.paths?.map(list => list.join(' ')).join(' and within ')],
    ['last used', grant.last_used_at && when(grant.last_used_at)],
    ['reason', grant.reason],
    ['issued', `${when(grant.issued_at)} by ${grant.issued_by}`],
    ['ended', grant.ended && `${when(grant.ended.at)} by ${grant.ended.by}: ${grant.ended.reason}`],
  ]
  return rows.filter((row): row is [string, string] => row[1] !== undefined)
}
