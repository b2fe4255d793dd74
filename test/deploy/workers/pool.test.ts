import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Pool, type PoolOptions, startPool } from '../../../deploy/workers/pool.ts'
import { temporaryFolder, until } from '../../support/program.ts'

// Processes that are workers in nothing but what they say on their channel.

const folder = temporaryFolder('pool')
const script = (name: string, text: string) => {
  const file = join(folder, `${name}.mjs`)
  writeFileSync(file, text)
  return file
}
const SERVES = `process.on('disconnect', () => process.exit(0))\nprocess.send({ kind: 'ready', urls: {} })\n`
const RETIRES = `${SERVES}process.on('message', ({ kind }) => process.exit(kind === 'retire' || kind === 'stop' ? 0 : 9))`
const polite = script('polite', RETIRES)
const slow = script('slow', SERVES)
const leaving = script(
  'leaving',
  `${RETIRES}\nprocess.on('SIGTERM', () => { process.send({ kind: 'stopping' }); setTimeout(() => process.exit(0), 300) })`,
)
const dying = script('dying', `process.send({ kind: 'ready', urls: {} }, () => setTimeout(() => process.exit(3), 20))`)
const wrong = script('wrong', `process.send({ kind: 'failed', message: 'line 3 is wrong' }, () => process.exit(78))`)

function watched(scripts: (number: number) => string, more: Partial<PoolOptions> = {}) {
  const started: number[] = []
  const settled: number[] = []
  const said: string[] = []
  const children: ChildProcess[] = []
  const options: PoolOptions = {
    spawn: number => {
      started.push(number)
      const child = spawn(process.execPath, [scripts(number)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
      children.push(child)
      return child
    },
    isFree: async () => true,
    settle: async number => {
      settled.push(number)
    },
    onMessage: () => {},
    onServing: () => {},
    onEnded: () => {},
    onDeath: () => {},
    patience: () => 5_000,
    log: { info: () => {}, warn: () => {}, error: (_facts, message) => said.push(message) },
    ...more,
  }
  onTestFinished(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  return { options, started, settled, said }
}

const numbersOf = (pool: Pool) => pool.serving().map(({ number }) => number)

test('a worker that dies is started again under its number, and meanwhile the others serve', async () => {
  const { options, started, settled, said } = watched(() => polite)
  const pool = await startPool(2, options)
  expect(numbersOf(pool)).toEqual([1, 2])
  pool.serving()[0]!.child.kill('SIGKILL')
  await until(() => numbersOf(pool).length === 1, 'the death to be seen')
  expect(numbersOf(pool)).toEqual([2])
  await until(() => numbersOf(pool).length === 2, 'the worker to be back')
  expect(started).toEqual([1, 2, 1])
  expect(said).toEqual(['worker 1 ended with SIGKILL; starting it again'])
  // Whoever has the number ends what is open under it.
  expect(settled).toEqual([])
  await pool.stop()
})

test('new workers go by numbers that nobody has, and a number is free again only once it is settled', async () => {
  const settling = new Map<number, () => void>()
  const { options } = watched(() => polite, {
    // Somebody of an earlier run.
    isFree: async number => number !== 2,
    settle: number => new Promise(resolve => settling.set(number, resolve)),
  })
  const pool = await startPool(2, options)
  expect(numbersOf(pool)).toEqual([1, 3])
  await pool.replace(2, () => {})
  expect(numbersOf(pool)).toEqual([4, 5])
  await until(() => settling.size === 2, 'both to be settled')
  settling.get(3)!()
  await pool.replace(2, () => {})
  expect(numbersOf(pool).sort()).toEqual([3, 6])
  await pool.stop()
})

test('a new worker that does not come to serve changes nothing', async () => {
  const { options, settled } = watched(number => (number === 4 ? wrong : polite))
  const pool = await startPool(2, options)
  const taken = () => {
    throw new Error('they do not serve')
  }
  await expect(pool.replace(2, taken)).rejects.toThrow('worker 4 ended with status 78: line 3 is wrong')
  expect(numbersOf(pool)).toEqual([1, 2])
  await until(() => settled.length === 2, 'the new ones to be gone')
  expect(settled.sort()).toEqual([3, 4])
  await pool.stop()
})

test('one that does not retire in its time is killed, and what it left open is settled', async () => {
  const { options, settled } = watched(number => (number === 1 ? slow : polite), { patience: () => 200 })
  const pool = await startPool(1, options)
  await pool.replace(1, () => {})
  expect(settled).toEqual([1])
  expect(numbersOf(pool)).toEqual([2])
  await pool.stop()
})

test('a worker that somebody else told to stop is given nothing more, and started again when it has ended', async () => {
  const { options, started } = watched(number => (number === 1 ? leaving : polite))
  const pool = await startPool(2, options)
  const [first] = pool.serving()
  first!.child.kill('SIGTERM')
  await until(() => numbersOf(pool).length === 1, 'it to be left out')
  expect(first!.child.exitCode).toBeNull()
  await until(() => numbersOf(pool).length === 2, 'it to be started again')
  expect(started).toEqual([1, 2, 1])
  await pool.stop()
})

test('wrong settings at the start are told with the status that says so', async () => {
  const { options } = watched(() => wrong)
  await expect(startPool(2, options)).rejects.toMatchObject({ status: 78, message: /line 3 is wrong/ })
})

test('workers that die again and again are given up', async () => {
  let deaths = 0
  const { options } = watched(() => dying, { onDeath: () => deaths++ })
  const pool = await startPool(1, options)
  expect(await pool.gaveUp).toMatchObject({ status: 1, message: /status 3; 4 of them died within a minute/ })
  expect(deaths).toBe(4)
  await pool.stop()
})
