import type { Command } from 'commander'
import { pathOf } from './access/request.ts'
import type { Client } from './client.ts'
import { asking, type Common, gate } from './command.ts'
import { CommandError, json, say, table, when } from './say.ts'

interface Comment {
  readonly id: string
  readonly at: string
  readonly by: string
  readonly via?: string
  readonly content: string
}

/** `drawbridge request comment`, `git access comment`: says something about a request, which decides nothing. */
export function commentCommand(): Command {
  return asking('comment', 'say something about a request, to whoever asked and whoever decides')
    .argument('<id>', 'r-…')
    .argument('<words...>', 'one line')
    .action(async (id: string, words: string[], options: Common) => {
      const path = `${pathOf(id)}/comments`
      const comment = await gate(options).call<Comment>('POST', path, { content: words.join(' ') })
      if (options.json) json(comment)
      say(`said, as ${comment.by}; it decides nothing`)
    })
}

/** What was said about a request, the oldest first; nothing where nothing was. */
export async function showComments(client: Client, id: string): Promise<void> {
  const { comments } = await client
    .call<{ comments: Comment[] }>('GET', `${pathOf(id)}/comments`)
    // A job's token is for its request and not for what people say of it.
    .catch(error => {
      if (error instanceof CommandError && error.code === 'bound') return { comments: [] }
      throw error
    })
  table(
    ['SAID BY', 'AT', 'VIA', 'COMMENT'],
    comments.map(({ by, at, via, content }) => [by, when(at), via ?? '', content]),
  )
}
