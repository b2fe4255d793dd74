import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'

const LOG = new URL('../../deploy/log.ts', import.meta.url).pathname

/** What a process writes that logs so. */
function logged(statement: string): { [key: string]: unknown }[] {
  const program = `
    import { createLog } from ${JSON.stringify(LOG)}
    const secrets = new Set(['planted"one', 'short'])
    const log = createLog('proxy', 'test', {}, secrets)
    ${statement}`
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' })
  return stderr
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
}

test('of an error only what it says is told, not what a library hung onto it', () => {
  const [line] = logged(`
    const cause = Object.assign(new Error('refused'), { code: 'EX', command: { args: ['AUTH', 'planted'] } })
    log.warn({ err: new Error('no answer', { cause }) }, 'redis')`)
  expect(line).toMatchObject({
    err: { type: 'Error', message: 'no answer', cause: { message: 'refused', code: 'EX' } },
  })
  expect(JSON.stringify(line)).not.toContain('planted')
})

test('a secret is taken out by its value, whoever says it and wherever, and one that came into use later as well', () => {
  const lines = logged(`
    log.info({ reason: 'the host said planted"one, later-secret' }, 'x planted"one y short')
    secrets.add('later-secret')
    log.info({ list: [{ deep: 'later-secret' }] }, 'z')`)
  expect(lines).toMatchObject([
    { reason: 'the host said [not shown], later-secret', msg: 'x [not shown] y short' },
    { list: [{ deep: '[not shown]' }], msg: 'z' },
  ])
})

test('what is no error is no fault of the log', () => {
  expect(logged(`log.error({ err: 'words' }, 'm')`)).toMatchObject([{ err: { message: 'words' } }])
  expect(logged(`log.error({ err: new AggregateError([new Error('a')], 'both') }, 'm')`)).toMatchObject([
    { err: { message: 'both', errors: [{ message: 'a' }] } },
  ])
})
