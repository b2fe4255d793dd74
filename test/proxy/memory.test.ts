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

const BUFFERS = `
  const { PerformanceObserver, constants } = await import('node:perf_hooks')
  const { boundYoungGeneration } = await import(process.argv[1])
  globalThis.kept = Array.from({ length: 200_000 }, (_, i) => ({ i, s: 'x' + i }))
  if (process.argv[2] === 'bound') boundYoungGeneration()
  let major = 0
  const count = list => {
    for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) major++
  }
  const observer = new PerformanceObserver(count)
  observer.observe({ entryTypes: ['gc'] })
  let last = []
  for (let i = 0; i < 40_000; i++) {
    last.push(new Uint8Array(16 << 10))
    if (last.length > 8) last = []
    for (let j = 0; j < 50; j++) last.length = last.push({ j }) - 1
    if (i % 100 === 0) await new Promise(resolve => setTimeout(resolve, 1))
  }
  await new Promise(resolve => setTimeout(resolve, 50))
  process.stdout.write(JSON.stringify({ major }))
`

interface Young {
  readonly before: number
  readonly after: number
}

function run<Result>(program: string, how: 'bound' | 'not'): Result {
  const file = new URL('../../proxy/memory.ts', import.meta.url).href
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', program, file, how], { encoding: 'utf8' })
  return JSON.parse(said) as Result
}

test('the young generation is made small again, and stays so', () => {
  const { before, after } = run<Young>(PROGRAM, 'bound')
  expect(before).toBeGreaterThan(8 << 20)
  expect(after).toBe(4 << 20)
  expect(run<Young>(PROGRAM, 'not').after).toBeGreaterThan(8 << 20)
})

test('buffers that come and go do not have everything searched for garbage', () => {
  const { major } = run<{ major: number }>(BUFFERS, 'bound')
  expect(major).toBeLessThan(3)
  expect(run<{ major: number }>(BUFFERS, 'not').major).toBeGreaterThan(major)
})
