import { readFileSync } from 'node:fs'
import { type Command, CommanderError } from 'commander'
import { CommandError, EXIT, hint, say } from './say.ts'

/**
 * Runs a command line, in our voice whatever goes wrong.
 *
 * @returns the exit status
 */
export async function runCommand(program: Command, args: readonly string[]): Promise<number> {
  quiet(program)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return Number(process.exitCode ?? EXIT.ok)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (error instanceof CommandError) {
      say(error.message)
      if (error.hint !== undefined) hint(error.hint)
      return error.exit
    }
    say(error instanceof Error ? error.message : String(error))
    return EXIT.failed
  }
}

/** Of this program, from its package. */
export function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return version
}

/** Errors in our own voice, and as exceptions, for every command below. */
export function quiet(command: Command): void {
  command.exitOverride().configureOutput({ outputError: (text, write) => write(inOurVoice(text)) })
  for (const sub of command.commands) quiet(sub)
}

function inOurVoice(text: string): string {
  const lines = text
    .trim()
    .split('\n')
    .filter(line => line !== '')
  return lines.map(line => `drawbridge: ${line.replace(/^error: /, '').replace(/\.$/, '')}\n`).join('')
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', error => {
  if (Reflect.get(error, 'code') === 'EPIPE') process.exit(EXIT.ok)
})
