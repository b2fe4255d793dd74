import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { httpUpstream } from '../../../../proxy/upstream/http.ts'
import type { Target } from '../../../../proxy/upstream/upstream.ts'
import { makeTls } from '../../../support/tls.ts'
import { upstreamSettings } from '../../http/front.ts'

const TARGET: Target = {
  path: 'team/app',
  service: 'receive-pack',
  protocol: 0,
  stateless: true,
  principal: 'alice',
  operation: 'op-1',
}

let tls: { certificate: string; key: string }
beforeAll(async () => {
  tls = await makeTls()
  setDefaultCACertificates([...getCACertificates('default'), readFileSync(tls.certificate, 'utf8')])
})

const open: Server[] = []
afterEach(() => {
  for (const server of open.splice(0)) {
    server.close()
    server.closeAllConnections()
  }
})

/** A host that answers every push with these bytes, and says of each connection whether it went on with a session. */
async function host(body: Buffer, more: { maxVersion?: 'TLSv1.2' | 'TLSv1.3' } = {}) {
  const resumed: boolean[] = []
  const options = { cert: readFileSync(tls.certificate), key: readFileSync(tls.key), ...more }
  const server = createServer(options, (request, response) => {
    resumed.push((request.socket as TLSSocket).isSessionReused())
    request.resume().on('end', () => {
      response.writeHead(200, { 'content-type': 'application/x-git-receive-pack-result' }).end(body)
    })
  })
  open.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { resumed, port: (server.address() as AddressInfo).port }
}

async function push(connect: ReturnType<typeof httpUpstream>): Promise<Buffer> {
  const answer = await connect(TARGET).exchange(Readable.from([Buffer.from('0000')]), new AbortController().signal)
  const parts: Buffer[] = []
  for await (const part of answer) parts.push(part)
  return Buffer.concat(parts)
}

test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'a large answer comes whole over %s, and the next connection goes on with the session',
  async maxVersion => {
    const body = Buffer.alloc(3 << 20, 'pack')
    const { resumed, port } = await host(body, { maxVersion })
    const connect = httpUpstream(upstreamSettings(new URL(`https://127.0.0.1:${port}/`)))
    for (let i = 0; i < 3; i++) expect((await push(connect)).equals(body)).toBe(true)
    expect(resumed).toEqual([false, true, true])
  },
)

// A session that is gone on with is not checked for the host's name again. Were one kept of a connection whose certificate
// is for another name, the second try would let an impostor in.
test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  "a host with another's certificate is refused every time over %s",
  async maxVersion => {
    const { resumed, port } = await host(Buffer.from('0000'), { maxVersion })
    // An address that the certificate does not name.
    const connect = httpUpstream(upstreamSettings(new URL(`https://127.0.0.2:${port}/`)))
    const server = open[0]!
    await new Promise<void>(resolve => server.close(() => resolve()))
    await new Promise<void>(resolve => server.listen(port, '0.0.0.0', resolve))
    for (let i = 0; i < 3; i++)
      await expect(push(connect)).rejects.toMatchObject({
        code: 'unreachable',
        detail: expect.stringMatching(/ALTNAME/),
      })
    expect(resumed).toEqual([])
  },
)
