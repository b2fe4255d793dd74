import { spawn } from 'node:child_process'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'
import { gitEnvironment } from './git.ts'
import { temporaryFolder } from './program.ts'

export interface HttpBackend {
  readonly url: URL
  /** Put repositories here. */
  readonly folder: string
  /** Each request as it arrived. */
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingHttpHeaders }[]
  stop(): Promise<void>
}

/** The real `git http-backend` behind a CGI server of one screen; starts in a millisecond, unlike nginx. */
export async function startHttpBackend(options: { basic?: string } = {}): Promise<HttpBackend> {
  const folder = temporaryFolder('backend')
  const requests: HttpBackend['requests'] = []
  const server = createServer({ requestTimeout: 0 }, (request, response) => {
    const { method = '', url = '', headers } = request
    requests.push({ method, url, headers })
    if (options.basic && headers.authorization !== `Basic ${Buffer.from(options.basic).toString('base64')}`) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="backend"' }).end()
      return
    }
    cgi(folder, request, response)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: new URL(`http://127.0.0.1:${port}/`),
    folder,
    requests,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

// RFC 3875: the request's head in variables, its body on stdin; on stdout a head, an empty line, the body.
function cgi(folder: string, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, search } = new URL(request.url ?? '/', 'http://backend')
  const { headers } = request
  const child = spawn('git', ['http-backend'], {
    env: gitEnvironment({
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      PATH_INFO: decodeURIComponent(pathname),
      QUERY_STRING: search.slice(1),
      REQUEST_METHOD: request.method ?? '',
      REMOTE_USER: 'bot',
      REMOTE_ADDR: '127.0.0.1',
      CONTENT_TYPE: headers['content-type'] ?? '',
      ...(headers['content-length'] && { CONTENT_LENGTH: headers['content-length'] }),
      ...(headers['content-encoding'] && { HTTP_CONTENT_ENCODING: headers['content-encoding'] }),
      ...(headers['git-protocol'] && { GIT_PROTOCOL: String(headers['git-protocol']) }),
    }),
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  pipeline(request, child.stdin, () => {})
  let head = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    child.stdout.off('data', onData).pause()
    const fields = head.subarray(0, end).toString('latin1').split('\r\n')
    let status = 200
    for (const field of fields) {
      const colon = field.indexOf(':')
      const name = field.slice(0, colon)
      const value = field.slice(colon + 1).trim()
      if (name.toLowerCase() === 'status') status = Number.parseInt(value, 10)
      else response.setHeader(name, value)
    }
    response.writeHead(status)
    response.write(head.subarray(end + 4))
    pipeline(child.stdout, response, () => child.kill())
  }
  child.stdout.on('data', onData)
  child.on('close', () => {
    if (!response.headersSent) response.writeHead(500).end()
  })
}
