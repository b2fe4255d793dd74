import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectRedis, untilReady } from '../../grant/redis.ts'
import { type Redis, startRedis } from '../support/redis.ts'

let server: Redis

beforeAll(async () => {
  server = await startRedis({ args: ['--requirepass', 'p@ss:w/rd'] })
})
afterAll(() => server?.stop())

const password = encodeURIComponent('p@ss:w/rd')

test('is reached by its address, with database and password', async () => {
  const redis = connectRedis(`redis://:${password}@127.0.0.1:${server.port}/3`, () => {})
  await untilReady(redis, 5_000)
  expect(await redis.client('INFO')).toContain('db=3')
  await redis.config('SET', 'requirepass', '')
  redis.disconnect()
})

test('is reached by its socket', async () => {
  for (const url of [`unix:${server.socket}`, `unix://${server.socket}`]) {
    const redis = connectRedis(url, () => {})
    await untilReady(redis, 5_000)
    expect(await redis.ping()).toBe('PONG')
    redis.disconnect()
  }
})

test('that is nowhere is an error within the time given, and the process lives', async () => {
  const errors: Error[] = []
  const redis = connectRedis('redis://127.0.0.1:1/0', error => errors.push(error))
  await expect(untilReady(redis, 200)).rejects.toMatchObject({ code: 'unreachable' })
  expect(errors.length).toBeGreaterThan(0)
  redis.disconnect()
})

test('that is named by something else is refused', () => {
  for (const url of ['sentinel://host', 'nonsense']) expect(() => connectRedis(url, () => {})).toThrow()
})
