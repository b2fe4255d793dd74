import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { supervise } from '../../deploy/supervise.ts'
import { temporaryFolder, until } from '../support/program.ts'

/** A watched process that runs `script`, where `say(text)` appends a line to a file the test reads. */
function process1(name: string, script: string, after: string[] = []) {
  const folder = temporaryFolder('watched')
  const said = join(folder, 'said')
  const file = join(folder, `${name}.mjs`)
  const say = `import { appendFileSync } from 'node:fs'; const say = text => appendFileSync(${JSON.stringify(said)}, text + '\\n')\n`
  writeFileSync(file, `${say}${script}`)
  const lines = () => (existsSync(said) ? readFileSync(said, 'utf8').trim().split('\n') : [])
  return { watched: { name, script: file, args: [], env: process.env, after }, lines }
}

const SERVE = `say('up'); process.send({ kind: 'ready', urls: { a: 'b' } }); setInterval(() => {}, 1000);\n`
const quiet = { say: () => {}, output: 'inherit' as const }

test('what depends on another starts after it serves, and stops before it', async () => {
  const order: string[] = []
  const folder = temporaryFolder('order')
  const log = join(folder, 'log')
  const note = (text: string) =>
    `import('node:fs').then(fs => fs.appendFileSync(${JSON.stringify(log)}, '${text}\\n'));`
  const polite = (name: string) =>
    `${note(`${name} up`)} process.on('SIGTERM', () => { ${note(`${name} down`)} setTimeout(() => process.exit(0), 100) });\n${SERVE}`
  const engine = process1('engine', polite('engine'))
  const role = process1('role', polite('role'), ['engine'])
  const supervised = supervise([role.watched, engine.watched], quiet)
  expect(await supervised.ready).toEqual({ a: 'b' })
  await supervised.stop(5_000)
  order.push(...readFileSync(log, 'utf8').trim().split('\n'))
  expect(order).toEqual(['engine up', 'role up', 'role down', 'engine down'])
})

test('what dies is started again', async () => {
  const one = process1('one', `${SERVE}setTimeout(() => process.exit(3), 50)`)
  const told: string[] = []
  const supervised = supervise([one.watched], { say: line => told.push(line) })
  await supervised.ready
  await until(() => one.lines().length >= 3, 'three starts')
  await supervised.stop(5_000)
  expect(told.slice(0, 2)).toEqual([
    'one ended with status 3; starting it again in 250 ms',
    'one ended with status 3; starting it again in 500 ms',
  ])
})

test('wrong settings are not tried again, and the reason is passed on', async () => {
  const one = process1(
    'one',
    `say('up'); process.send({ kind: 'failed', message: 'line 3 is wrong' }, () => process.exit(78))`,
  )
  const supervised = supervise([one.watched], quiet)
  expect(await supervised.gaveUp).toBe('one ended with status 78: line 3 is wrong')
  await expect(supervised.ready).rejects.toThrow('line 3 is wrong')
  await supervised.stop(1_000)
  expect(one.lines()).toEqual(['up'])
})

test('what ignores SIGTERM is killed when the time is over', async () => {
  const one = process1('one', `process.on('SIGTERM', () => say('no')); ${SERVE}`)
  const supervised = supervise([one.watched], quiet)
  await supervised.ready
  await supervised.stop(0)
  expect(one.lines()).toEqual(['up', 'no'])
})

test('SIGHUP reaches every process', async () => {
  const one = process1('one', `process.on('SIGHUP', () => say('again')); ${SERVE}`)
  const supervised = supervise([one.watched], quiet)
  await supervised.ready
  supervised.hangup()
  await until(() => one.lines().includes('again'), 'the reload')
  await supervised.stop(5_000)
})

test('SIGUSR2 reaches the one that is meant, once it serves', async () => {
  const [one, other] = ['one', 'other'].map(name =>
    process1(name, `process.on('SIGUSR2', () => say('anew')); ${SERVE}`),
  )
  const supervised = supervise([one!.watched, other!.watched], quiet)
  supervised.restart('one')
  await supervised.ready
  supervised.restart('one')
  await until(() => one!.lines().includes('anew'), 'the signal')
  await supervised.stop(5_000)
  expect([one!.lines(), other!.lines()]).toEqual([['up', 'anew'], ['up']])
})

test('SIGHUP does not end a process that is still starting; it gets its own once it serves', async () => {
  const late = `setTimeout(() => { process.on('SIGHUP', () => say('again')); ${SERVE} }, 300)`
  const one = process1('one', late)
  const supervised = supervise([one.watched], quiet)
  supervised.hangup()
  await until(() => one.lines().includes('again'), 'the reload')
  expect(one.lines()).toEqual(['up', 'again'])
  await supervised.stop(5_000)
})
