import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { PROXY_FLAGS } from '../../deploy/vm.ts'

// In processes of their own: flags are for a whole VM, from its start.

const CHURN = `
  const { getHeapSpaceStatistics } = await import('node:v8')
  const young = () => getHeapSpaceStatistics().find(space => space.space_name === 'new_space').space_size
  const churn = count => {
    for (let i = 0, kept = []; i < count; i++) {
      kept.push({ i })
      if (kept.length > 40_000) kept = []
    }
  }
  churn(1_500_000)
  const busy = young()
  // A little now and then, which V8 takes for a reason to make it smaller.
  for (let i = 0; i < 100; i++) {
    churn(5_000)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  process.stdout.write(JSON.stringify({ busy, idle: young() }))
`

const BUFFERS = `
  const { PerformanceObserver, constants } = await import('node:perf_hooks')
  globalThis.kept = Array.from({ length: 200_000 }, (_, i) => ({ i, s: 'x' + i }))
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

const ANEW = `
  import { withProxyFlags } from ${JSON.stringify(new URL('../../deploy/vm.ts', import.meta.url).href)}
  if (!process.execArgv.includes('--stack-size=900')) throw new Error('what it was started with is gone')
  process.stdout.write(process.pid + '\\n')
  withProxyFlags()
  process.stdout.write(JSON.stringify({ flags: process.execArgv, arguments: process.argv.slice(1), secret: process.env.SECRET }))
`

interface Young {
  readonly busy: number
  readonly idle: number
}

function run(program: string, flags: readonly string[], ...args: readonly string[]): string {
  return execFileSync(process.execPath, [...flags, '--input-type=module', '-e', program, ...args], {
    encoding: 'utf8',
    env: { ...process.env, SECRET: 'of the environment' },
  })
}

const measured = <Result>(program: string, flags: readonly string[]) => JSON.parse(run(program, flags)) as Result

test('the young generation of a proxy is small, and neither grows nor shrinks', () => {
  expect(measured<Young>(CHURN, PROXY_FLAGS)).toEqual({ busy: 8 << 20, idle: 8 << 20 })
  const left = measured<Young>(CHURN, [])
  expect(left.busy).toBeGreaterThan(8 << 20)
})

test('buffers that come and go do not have everything searched for garbage', () => {
  const { major } = measured<{ major: number }>(BUFFERS, PROXY_FLAGS)
  expect(major).toBeLessThan(3)
  expect(measured<{ major: number }>(BUFFERS, []).major).toBeGreaterThan(major)
})

test('a program started without the flags begins anew with them: the same process, once, with all it was given', () => {
  const [first, second, said] = run(ANEW, ['--stack-size=900'], 'one', 'two').split('\n') as [string, string, string]
  expect(second).toBe(first)
  const {
    flags,
    arguments: args,
    secret,
  } = JSON.parse(said) as { flags: string[]; arguments: string[]; secret: string }
  expect(flags).toEqual(expect.arrayContaining([...PROXY_FLAGS, '--stack-size=900']))
  expect(args).toEqual(['one', 'two'])
  expect(secret).toBe('of the environment')
})
