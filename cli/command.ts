import { Command, InvalidArgumentError, Option } from 'commander'
import { readSize, SIZE_FORM } from '../config/units.ts'
import { type Client, createClient } from './client.ts'
import { say } from './say.ts'

/** What each command that asks the gate can be given. */
export interface Common {
  readonly url?: string
  readonly tokenFile?: string
  readonly caFile?: string
  readonly json?: boolean
}

/** A command that asks the gate: with where it is, and who asks. */
export function asking(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .addOption(
      new Option('--url <url>', 'admin address of the gate: https://…, or unix:PATH on its own machine').env(
        'DRAWBRIDGE_URL',
      ),
    )
    .addOption(new Option('--token-file <file>', 'file with the token').env('DRAWBRIDGE_TOKEN_FILE'))
    .addOption(new Option('--ca-file <file>', 'certificates to trust besides, PEM').env('DRAWBRIDGE_CA_FILE'))
    .option('--json', 'as JSON')
}

/** The gate as these options say. */
export function gate(options: Common): Client {
  return createClient(options, process.env)
}

/** Collects an option given several times, or once with commas. */
export function several(text: string, before: readonly string[] = []): string[] {
  return [
    ...before,
    ...text
      .split(',')
      .map(part => part.trim())
      .filter(part => part !== ''),
  ]
}

export function wholeNumber(text: string): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) throw new InvalidArgumentError('Not a whole number.')
  return number
}

/** Whole bytes. */
export function size(text: string): number {
  const bytes = readSize(text)
  if (bytes === undefined || bytes === 0) throw new InvalidArgumentError(`Not ${SIZE_FORM}.`)
  return bytes
}

/** Durable, and the gate has not heard of it yet. */
export function sayUnlessEnacted(answer: { readonly enacted?: boolean }): void {
  if (answer.enacted === false) {
    say('it is written down, and takes effect as soon as Redis answers; until then the gate lets nobody through')
  }
}
