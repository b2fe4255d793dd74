import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'

export interface Received {
  readonly id: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A receiver of webhooks as standardwebhooks.com describes it: checks each signature, and knows repeated ids. */
export interface Receiver {
  readonly url: URL
  readonly secret: string
  /** Each id once, in the order in which they were taken. */
  readonly taken: Received[]
  /** Everything that came, repeated or turned away. */
  readonly attempts: Received[]
  /** What it answers; 200 is the only one with which it takes anything. */
  answer: { status: number; headers?: Record<string, string>; body?: string; hang?: boolean }
  stop(): Promise<void>
}

export async function startReceiver(): Promise<Receiver> {
  const secret = `whsec_${Buffer.from('a secret of more than 24 bytes').toString('base64')}`
  const verifier = new Webhook(secret)
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const received = { id: String(request.headers['webhook-id']), headers: request.headers, body }
      receiver.attempts.push(received)
      const { status, headers = {}, body: said = '', hang } = receiver.answer
      if (hang) return
      try {
        verifier.verify(body, request.headers as Record<string, string>)
      } catch {
        response.writeHead(401).end()
        return
      }
      if (status === 200 && !receiver.taken.some(({ id }) => id === received.id)) receiver.taken.push(received)
      response.writeHead(status, headers).end(said)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const receiver: Receiver = {
    url: new URL(`http://127.0.0.1:${port}/notices`),
    secret,
    taken: [],
    attempts: [],
    answer: { status: 200 },
    stop: () =>
      new Promise(resolve => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  return receiver
}
