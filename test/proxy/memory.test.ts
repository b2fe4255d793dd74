import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

// In a process of its own: the bound is for the whole VM, and for good.
const PROGRAM = `
  const { boundYoungGeneration, youngBytes } = await import(process.argv[1])
  const churn = () => {
    for (let i = 0, kept = []; i < 1_500_000; i++) {
      kept.push({ i })
      if (kept.length > 40_000) kept = []
    }
  }
  churn()
  const before = youngBytes()
  if (process.argv[2] === 'bound') boundYoungGeneration()
  churn()
  process.stdout.write(JSON.stringify({ before, after: youngBytes() }))
`

function run(how: string): { before: number; after: number } {
  const file = new URL('../../proxy/memory.ts', import.meta.url).href
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', PROGRAM, file, how], { encoding: 'utf8' })
  return JSON.parse(said) as { before: number; after: number }
}

test('the young generation is made small again, and stays so', () => {
  const { before, after } = run('bound')
  expect(before).toBeGreaterThan(8 << 20)
  expect(after).toBe(4 << 20)
  expect(run('not').after).toBeGreaterThan(8 << 20)
})
