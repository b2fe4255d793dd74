import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Serve } from '../../../proxy/client.ts'
import { git } from '../../support/git.ts'
import { AUTHORIZATION, eventually, type FrontUnderTest, sendRaw, startFront, TOKEN } from './front.ts'

const ADVERTISE = '/acme/app.git/info/refs?service=git-upload-pack'
const PUSH = '/acme/app.git/git-receive-pack'
const PUSH_TYPE = { 'content-type': 'application/x-git-receive-pack-request' }
const good = { authorization: `Bearer ${TOKEN}` }

const echo: Serve = async client => {
  let bytes = 0
  for await (const chunk of client.request) bytes += chunk.length
  client.response.write(`read ${bytes}`)
  return { status: 0, operation: 'op-test' }
}

let front: FrontUnderTest
beforeAll(async () => {
  front = await startFront(echo)
})
afterAll(() => front.close(0))

test('an advertisement begins with its preamble, whole, before the first byte of ours', async () => {
  const response = await fetch(front.url + ADVERTISE, { headers: good })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('application/x-git-upload-pack-advertisement')
  expect(response.headers.get('cache-control')).toContain('no-cache')
  expect(await response.text()).toBe('001e# service=git-upload-pack\n0000read 0')
})

test('who calls, for what, in which protocol, is told to serve', async () => {
  await fetch(front.url + ADVERTISE, {
    headers: { ...good, 'git-protocol': 'x=1:version=2', 'user-agent': 'git/2.39' },
  })
  expect(front.served.at(-1)).toMatchObject({
    caller: { principal: 'alice', origin: { transport: 'http', address: '127.0.0.1', agent: 'git/2.39' } },
    repository: 'acme/app',
    service: 'upload-pack',
    protocol: 2,
    part: 'advertise',
  })
  for (const [header, protocol] of [
    ['version=1', 1],
    ['version=1:version=2', 2],
    ['version=3', 0],
    ['2', 0],
  ] as const) {
    await fetch(front.url + ADVERTISE, { headers: { ...good, 'git-protocol': header } })
    expect(front.served.at(-1)?.protocol).toBe(protocol)
  }
  const push = ADVERTISE.replace('upload', 'receive')
  await fetch(front.url + push, { headers: { ...good, 'git-protocol': 'version=2' } })
  expect(front.served.at(-1)?.protocol).toBe(0)
})

test('without credentials the way to get them is told; wrong ones are recorded, and told the same', async () => {
  const before = front.served.length
  const none = await fetch(front.url + ADVERTISE)
  expect(none.status).toBe(401)
  expect(none.headers.get('www-authenticate')).toMatch(/^Basic realm="Drawbridge"/)
  expect(none.headers.get('content-type')).toMatch(/^text\/plain/)
  const sentence = await none.text()
  expect(sentence).toContain('git access login')
  expect(front.refused).toEqual([])

  const wrong = await fetch(front.url + ADVERTISE, {
    headers: { authorization: `Basic ${Buffer.from('mallory\x1b[2J:hunter2').toString('base64')}` },
  })
  expect([wrong.status, await wrong.text()]).toEqual([401, sentence])
  expect(front.refused).toMatchObject([
    {
      kind: 'signin.refused',
      code: 'credential',
      reason: 'no such token',
      claimed: 'mallory',
      origin: { address: '127.0.0.1' },
    },
  ])
  expect(JSON.stringify(front.refused)).not.toContain('hunter2')
  expect(front.served.length).toBe(before)
})

test('git shows the sentence to somebody without a token', async () => {
  const { stderr, status } = await git(['ls-remote', `${front.url.replace('//', '//x:wrong@')}/acme/app.git`])
  expect(status).toBe(128)
  expect(stderr).toContain('Authentication failed')
})

test('a source that goes on with wrong credentials is slowed down, then told when to come back', async () => {
  const strict = await startFront(echo)
  const wrong = { headers: { authorization: 'Bearer wrong' } }
  // At once, so that the delays run side by side.
  await fetch(strict.url + ADVERTISE, { headers: good })
  const gaveUp = new AbortController()
  const guesses = Array.from({ length: 25 }, () =>
    fetch(strict.url + ADVERTISE, { ...wrong, signal: gaveUp.signal }).catch(() => undefined),
  )
  await eventually(() => strict.refused.length).toBeGreaterThanOrEqual(20)
  const late = await fetch(strict.url + ADVERTISE, wrong)
  expect(late.status).toBe(429)
  expect(Number(late.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await fetch(strict.url + ADVERTISE, { headers: good })).status).toBe(200)
  gaveUp.abort()
  await Promise.all(guesses)
  await strict.close(0)
})

test('when credentials cannot be checked, nobody comes in and no credential is called wrong', async () => {
  const blind = await startFront(echo, { identify: () => Promise.reject(new Error('Redis at 10.0.0.9 is away')) })
  const response = await fetch(blind.url + ADVERTISE, { headers: good })
  expect(response.status).toBe(503)
  expect(await response.text()).toBe(
    'the gate cannot check credentials and lets nothing through; try again in some seconds\n',
  )
  expect([blind.served, blind.refused]).toEqual([[], []])
  await blind.close(0)
})

test('what is no name of a repository looks like one to which there is no window, and is recorded', async () => {
  const before = front.served.length
  const response = await fetch(`${front.url}/acme/a$b.git/info/refs?service=git-upload-pack`, { headers: good })
  expect(response.status).toBe(200)
  expect(await response.text()).toMatch(
    /^001e# service=git-upload-pack\n0000....ERR no open window for you on acme\/a\$b\.git\n/,
  )
  expect(front.refusedPaths.at(-1)).toMatchObject({ kind: 'operation.refused', principal: 'alice', code: 'no-grant' })
  const push = await fetch(`${front.url}/acme/..git/git-receive-pack`, {
    method: 'POST',
    headers: { ...good, ...PUSH_TYPE },
    body: '0000',
  })
  expect(push.status).toBe(403)
  const anonymous = await fetch(`${front.url}/acme/a$b.git/info/refs?service=git-upload-pack`)
  expect(anonymous.status).toBe(401)
  expect(front.served.length).toBe(before)
})

test('a body of another type is refused', async () => {
  for (const type of [
    'application/x-git-upload-pack-request',
    'text/plain',
    `${PUSH_TYPE['content-type']}; charset=x`,
  ]) {
    const response = await fetch(front.url + PUSH, {
      method: 'POST',
      headers: { ...good, 'content-type': type },
      body: '0000',
    })
    expect(response.status).toBe(415)
  }
})

test('a healthy gate says so to anybody', async () => {
  expect(await (await fetch(`${front.url}/healthz`)).text()).toBe('ok\n')
  expect((await fetch(`${front.url}/healthz`, { method: 'HEAD' })).status).toBe(200)
})

test('whoever waits for 100 Continue gets it once he is known, and only then', async () => {
  const head = `POST ${PUSH} HTTP/1.1\r\nHost: x\r\nContent-Type: ${PUSH_TYPE['content-type']}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n`
  const socket = connect(front.address.port, '127.0.0.1')
  let text = ''
  socket.on('data', chunk => {
    text += chunk
  })
  socket.write(`${head}${AUTHORIZATION}\r\n`)
  await eventually(() => text).toBe('HTTP/1.1 100 Continue\r\n\r\n')
  socket.write('0000')
  await eventually(() => text).toContain('read 4')
  socket.destroy()
  const refused = await sendRaw(front.address, [`${head}\r\n`])
  expect(refused.text).toMatch(/^HTTP\/1\.1 401 /)
  expect(refused.closed).toBe(true)
})

test('a fault of ours before the first byte is a 500 that says nothing of it; after it, the answer breaks off', async () => {
  const faulty = await startFront(async client => {
    if (client.service === 'receive-pack') {
      client.response.write('half an ')
      // A little of an answer is held back for a moment: it could be all of it.
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    throw new Error('password of the database is s3cret')
  })
  const early = await fetch(faulty.url + ADVERTISE, { headers: good })
  expect(early.status).toBe(500)
  expect(await early.text()).not.toContain('s3cret')
  const late = fetch(faulty.url + ADVERTISE.replace('upload', 'receive'), { headers: good })
  await expect(late.then(response => response.text())).rejects.toThrow()
  expect(faulty.log.filter(line => line.includes('could not be answered'))).toHaveLength(2)
  await faulty.close(0)
})

test('an answer that serve destroys never looks whole', async () => {
  const cutting = await startFront(async client => {
    client.response.write('half')
    await new Promise(resolve => setImmediate(resolve))
    client.response.destroy()
    return { status: 1, operation: 'op-test' }
  })
  const response = await fetch(cutting.url + ADVERTISE, { headers: good })
  await expect(response.text()).rejects.toThrow()
  await cutting.close(0)
})

test('a client that leaves is told to serve at once', async () => {
  let gone: (() => void) | undefined
  const left = new Promise<void>(resolve => {
    gone = resolve
  })
  const waiting = await startFront(async client => {
    client.response.write('begin')
    await new Promise<void>(resolve => client.gone.addEventListener('abort', () => resolve()))
    gone?.()
    return { status: 1, operation: 'op-test' }
  })
  const socket = connect(waiting.address.port, '127.0.0.1')
  socket.write(`GET ${ADVERTISE} HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}\r\n`)
  await new Promise(resolve => socket.once('data', resolve))
  socket.destroy()
  await left
  await waiting.close(0)
})

test('requests on one connection share its id, and another connection has another', async () => {
  const request = `GET ${ADVERTISE} HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}Connection: close\r\n\r\n`
  await sendRaw(front.address, [request])
  const first = front.served.at(-1)?.caller.origin.connection
  await sendRaw(front.address, [request])
  expect(first).toMatch(/^c-/)
  expect(front.served.at(-1)?.caller.origin.connection).not.toBe(first)
})

test('closing lets what runs finish, closes what rests, and takes nothing new', async () => {
  let finish: (() => void) | undefined
  const slow = await startFront(async client => {
    await new Promise<void>(resolve => {
      finish = resolve
    })
    client.response.write('done')
    return { status: 0, operation: 'op-test' }
  })
  const resting = sendRaw(slow.address, [])
  const running = fetch(slow.url + ADVERTISE, { headers: good })
  await eventually(() => finish).toBeDefined()
  const closed = slow.close(5_000)
  expect((await resting).closed).toBe(true)
  await expect(fetch(`${slow.url}/healthz`)).rejects.toThrow()
  finish?.()
  expect(await (await running).text()).toContain('done')
  await closed
})

test('closing breaks off what does not finish in time', async () => {
  const stuck = await startFront(
    client =>
      new Promise(resolve => client.gone.addEventListener('abort', () => resolve({ status: 1, operation: 'op' }))),
  )
  const running = fetch(stuck.url + ADVERTISE, { headers: good })
  await eventually(() => stuck.served.length).toBe(1)
  await Promise.all([stuck.close(50), expect(running).rejects.toThrow()])
})

test('behind a load balancer the record bears the address it tells', async () => {
  const behind = await startFront(echo, { isLoadBalancer: address => address === '127.0.0.1' })
  const request = `GET ${ADVERTISE} HTTP/1.1\r\nHost: x\r\n${AUTHORIZATION}Connection: close\r\n\r\n`
  const told = await sendRaw(behind.address, [`PROXY TCP6 2001:db8::7 ::1 4711 443\r\n${request}`])
  expect(told.text).toContain('200 OK')
  expect(behind.served.at(-1)?.caller.origin.address).toBe('2001:db8::7')
  const bare = await sendRaw(behind.address, [request])
  expect(bare).toEqual({ text: '', closed: true })
  await behind.close(0)
  // From anybody else the header is bytes, and no HTTP.
  const spoofed = await sendRaw(front.address, [`PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n${request}`])
  expect(spoofed.text).toMatch(/^HTTP\/1\.1 400 /)
})
