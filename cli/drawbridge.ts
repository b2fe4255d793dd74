#!/usr/bin/env node
import { Command } from 'commander'
import { drawbridgeAnywhere } from './anywhere.ts'
import { caCommand } from './ca.ts'
import { doctorCommand } from './doctor.ts'
import { policyCommand } from './policy.ts'
import { runCommand } from './run.ts'

/** The whole command line: what asks a gate, and what is for its own machine or a checkout. */
export function drawbridge(): Command {
  const program = drawbridgeAnywhere().addCommand(serveCommand()).addCommand(caCommand()).addCommand(doctorCommand())
  policyCommand(program)
  return program
}

/** Its own options are serve's to read; nothing of the roles is loaded unless it is run. */
function serveCommand(): Command {
  return new Command('serve')
    .description('run the gate: --role proxy|admin|ca, --config FILE')
    .argument('[options...]')
    .allowUnknownOption()
    .helpOption(false)
    .action(async (options: string[]) => {
      const { main } = await import('./serve.ts')
      process.exit(await main(options))
    })
}

/** @returns the exit status */
export const main = (args: readonly string[]): Promise<number> => runCommand(drawbridge(), args)

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
