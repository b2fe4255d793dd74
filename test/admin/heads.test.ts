import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { headPublishers } from '../../admin/heads.ts'
import { startRedis } from '../support/redis.ts'

test('heads go to each place that the settings name, and to no other', async () => {
  const server = await startRedis()
  const redis = new Redis(server.url)
  const got: string[] = []
  const receiver = createServer(async (request, response) => {
    for await (const chunk of request) got.push(`${request.headers.authorization} ${chunk}`)
    response.end()
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => receiver.once('listening', resolve))
  const url = new URL(`http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`)
  const head = { seq: 1, hash: 'a', root: 'b', time: '2026-01-31T12:34:56.789Z', key: 'k', signature: 's' }

  expect(headPublishers({ stdout: false }, redis)).toEqual([])
  const headers = [{ name: 'authorization', secret: 'Bearer t' }]
  const [stdout, ...others] = headPublishers({ stdout: true, webhook: { url, headers }, redis: 'heads' }, redis)
  expect(stdout?.name).toBe('stdout')
  for (const publisher of others) await publisher.publish(head)
  expect(got).toEqual([`Bearer t ${JSON.stringify(head)}`])
  expect((await redis.xrange('heads', '-', '+'))[0]?.[1]).toEqual(['head', JSON.stringify(head)])

  redis.disconnect()
  receiver.close()
  await server.stop()
})
