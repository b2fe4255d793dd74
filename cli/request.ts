import { Command } from 'commander'
import { pathOf, type Request, requestTable, sayAsked, sayOutcome, showRequest } from './access/request.ts'
import { query } from './client.ts'
import { asking, type Common, gate, sayUnlessEnacted, wholeNumber } from './command.ts'
import { commentCommand, showComments } from './comment.ts'
import { json, say } from './say.ts'

/** `drawbridge request list|show|approve|deny|comment` */
export function requestCommand(): Command {
  return new Command('request')
    .description('what others ask for')
    .addCommand(
      asking('list', 'what waits, the newest first')
        .option('--all', 'also what is decided')
        .option('--mine', 'what you asked for yourself')
        .option('--limit <n>', 'at most so many', wholeNumber, 100)
        .action(async (options: Common & { all?: boolean; mine?: boolean; limit: number }) => {
          const { limit } = options
          const path = `/requests${query({ limit, state: options.all ? undefined : 'requested', mine: options.mine })}`
          const { requests } = await gate(options).call<{ requests: Request[] }>('GET', path)
          if (options.json) return json(requests)
          if (requests.length === 0) say('nothing waits')
          requestTable(requests)
        }),
    )
    .addCommand(
      asking('show', 'everything about a request')
        .argument('<id>', 'r-…')
        .action(async (id: string, options: Common) => {
          const client = gate(options)
          const request = await client.call<Request>('GET', pathOf(id))
          if (options.json) return json(request)
          showRequest(request)
          await showComments(client, id)
        }),
    )
    .addCommand(voting('approve', 'say yes to exactly what is shown'))
    .addCommand(
      voting('deny', 'say no: one no ends it, and whatever it opened').requiredOption(
        '--reason <text>',
        'what would do',
      ),
    )
    .addCommand(commentCommand())
}

function voting(says: 'approve' | 'deny', description: string): Command {
  const command = asking(says, description)
    .argument('<id>', 'r-…')
    .option('--digest <digest>', 'of what you were shown earlier; what is there now, if left out')
    .action(async (id: string, options: Common & { reason?: string; digest?: string }) => {
      const client = gate(options)
      const shown = await client.call<Request>('GET', pathOf(id))
      if (!options.json) sayAsked(shown)
      const vote = { digest: options.digest ?? shown.digest, reason: options.reason }
      const request = await client.call<Request>('POST', `${pathOf(id)}/${says}`, vote)
      if (options.json) json(request)
      else sayOutcome(request)
      sayUnlessEnacted(request)
    })
  return says === 'approve' ? command.option('--reason <text>', 'a comment') : command
}
