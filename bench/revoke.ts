import { connect } from 'node:net'
import type { BenchGate } from './gate.ts'
import { CLONE_REQUEST } from './load.ts'

/**
 * How long bytes still come after a revocation was acknowledged: milliseconds, ascending. Each time, so many slow clones
 * run through the proxies in turn under one grant, and the grant is revoked.
 */
export async function revokeToLastByte(
  gate: BenchGate,
  { running, times }: { readonly running: number; readonly times: number },
): Promise<number[]> {
  const all: number[] = []
  for (let time = 0; time < times; time++) {
    const repository = `slow/x/200-8-${1 + time / 1000}`
    const grant = await gate.grant(repository)
    const streams = await Promise.all(
      Array.from({ length: running }, (_, i) => slowClone(gate.proxies[i % 2]!.http, repository, gate.token)),
    )
    await new Promise(resolve => setTimeout(resolve, 300))
    await gate.revoke(grant)
    const acknowledged = performance.now()
    const lasts = await Promise.all(streams.map(stream => stream.ended))
    all.push(...lasts.map(last => Math.max(0, last - acknowledged)))
  }
  return all.sort((a, b) => a - b)
}

/** A clone that is under way; `ended` resolves to when its last byte of the pack came. */
async function slowClone(http: string, repository: string, token: string): Promise<{ ended: Promise<number> }> {
  const url = new URL(http)
  const socket = connect({ host: url.hostname, port: Number(url.port), noDelay: true })
  socket.write(
    [
      `POST /${repository}.git/git-upload-pack HTTP/1.1`,
      `Host: ${url.host}`,
      `Authorization: Bearer ${token}`,
      'Content-Type: application/x-git-upload-pack-request',
      'Git-Protocol: version=2',
      `Content-Length: ${CLONE_REQUEST.length}`,
      '',
      CLONE_REQUEST.toString('latin1'),
    ].join('\r\n'),
  )
  let last = 0
  const first = new Promise<void>((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => {
      if (chunk.toString('latin1', 9, 12) === '200') resolve()
      else reject(new Error(chunk.toString('latin1', 0, 300)))
    })
    socket.once('error', reject)
  })
  const ended = new Promise<number>((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error('an operation ran on for a minute after its revocation')), 60_000)
    const done = () => {
      clearTimeout(limit)
      socket.destroy()
      resolve(last)
    }
    socket.on('data', (chunk: Buffer) => {
      last = performance.now()
      // The answer to a cut ends properly; the connection itself may stay open.
      if (chunk.subarray(-5).toString('latin1') === '0\r\n\r\n') done()
    })
    socket.on('close', done)
  })
  await first
  return { ended }
}
