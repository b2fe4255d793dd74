import { fileURLToPath } from 'node:url'
import { runProgram } from '../../test/support/program.ts'
import type { Case } from '../case.ts'

// Parts that have a bench of their own, run by it: in a process of theirs, so that nothing here is measured along.

const RECORDS = { quick: 10_000, full: 100_000 }

/** 10,000 rules: loading them, and a decision. */
export const policy: Case = {
  name: 'policy',
  async run({ say }) {
    say('policy: 10,000 rules')
    const taken = await json<Record<string, number | { median: number; p99: number }>>('policy.ts', '--json')
    const measured = Object.entries(taken).filter(([name]) => /^(?:load|decision)/.test(name))
    const figures = measured.map(([name, figure]) => ({
      what: `policy, ${name}`,
      way: 'drawbridge',
      value:
        typeof figure === 'number'
          ? Math.round(figure).toLocaleString('en')
          : `median ${figure.median.toFixed(3)} ms, p99 ${figure.p99.toFixed(3)} ms`,
    }))
    return { figures, goals: [] }
  },
}

/** Records into the ledger and out of it. Its goals are for a million of them: `node bench/ledger.ts 1000000 --publish`. */
export const ledger: Case = {
  name: 'ledger',
  async run({ say, quick }) {
    const records = quick ? RECORDS.quick : RECORDS.full
    say(`ledger: ${records.toLocaleString('en')} records`)
    const taken = await json<{ figures: [string, string][] }>('ledger.ts', String(records), '--json')
    const shown = taken.figures.filter(([what]) => !what.startsWith('query'))
    return { figures: shown.map(([what, value]) => ({ what: `ledger, ${what}`, way: 'drawbridge', value })), goals: [] }
  },
}

/** What it prints last. */
async function json<T>(file: string, ...args: string[]): Promise<T> {
  const path = fileURLToPath(new URL(`../${file}`, import.meta.url))
  const said = await runProgram(process.execPath, [path, ...args], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  })
  return JSON.parse(said.trimEnd().split('\n').at(-1) ?? '') as T
}
