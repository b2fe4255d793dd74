import { ControlError, type ControlPlane } from '../control.ts'
import { printable } from '../git/pktline.ts'
import type { CommandContext, OwnCommand } from '../ssh/session.ts'
import { type Line, readLine } from './line.ts'
import { type Asked, askedBy } from './request.ts'

/** Makes words out of what they take, how they are written, and what they do: what is not understood or refused is said alike by all. */
export function wordOf(control: ControlPlane) {
  return (
    known: Parameters<typeof readLine>[1],
    usage: string,
    run: (line: Line, asked: Asked, context: CommandContext) => Promise<number>,
  ): OwnCommand =>
    async (args, context) => {
      const line = readLine(args, known)
      try {
        if (typeof line === 'string') throw new ControlError(2, line, `usage: ${usage}`)
        return await run(line, askedBy(context, control), context)
      } catch (error) {
        if (!(error instanceof ControlError)) throw error
        say(context, error.message)
        const hint = error.status === 2 ? `usage: ${usage}` : error.hint
        if (hint !== undefined) say(context, hint)
        return error.status
      }
    }
}

export function say({ stderr }: CommandContext, sentence: string): void {
  stderr.write(`drawbridge: ${printable(sentence, 500)}\n`)
}
