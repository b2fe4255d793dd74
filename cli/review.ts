import type { Command } from 'commander'
import { query } from './client.ts'
import { asking, type Common, gate } from './command.ts'
import { json, say, table } from './say.ts'

interface Review {
  readonly since: string
  readonly windows: number
  readonly more: number
  readonly found: readonly {
    readonly grant: string
    readonly principal: string
    readonly by: string
    readonly repository: string
    readonly actions: readonly string[]
    readonly refs: readonly string[]
    readonly findings: readonly string[]
    readonly enough?: readonly string[]
  }[]
}

const WORDS: Readonly<{ [finding: string]: string }> = {
  unused: 'never used',
  actions: 'actions not used',
  refs: 'every ref, few used',
  repositories: 'many repositories, few used',
  length: 'far longer than the work',
}

/** `drawbridge review` */
export function reviewCommand(): Command {
  return asking('review', 'windows that were never used, or far wider than what was done in them')
    .option('--since <time>', 'open from this time on; 30 days before the end unless given')
    .option('--until <time>', 'before this time; now unless given')
    .action(async (options: Common & { since?: string; until?: string }) => {
      const { since, until } = options
      const review = await gate(options).call<Review>('GET', `/review${query({ since, until })}`)
      if (options.json) return json(review)
      table(
        ['GRANT', 'PRINCIPAL', 'BY', 'REPOSITORY', 'ACTIONS', 'REFS', 'FOUND', 'ENOUGH'],
        review.found.map(({ grant, principal, by, repository, actions, refs, findings, enough = [] }) => [
          grant,
          principal,
          by,
          repository,
          actions.join(','),
          refs.join(',') || '*',
          findings.map(finding => WORDS[finding] ?? finding).join('; '),
          enough.join('; '),
        ]),
      )
      if (review.more > 0) say(`and ${review.more} more: --json, or a shorter time`)
      say(`${review.found.length + review.more} of ${review.windows} windows open since ${review.since}`)
    })
}
