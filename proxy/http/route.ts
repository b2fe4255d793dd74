import type { GitService } from '../upstream/upstream.ts'

// gitprotocol-http(5): two URLs a repository and service, `info/refs?service=` and the service's own name. Everything
// else that git ever asked for over HTTP is answered with a sentence.

export type HttpService = Exclude<GitService, 'upload-archive'>

export type Route =
  | { readonly kind: 'health' }
  /** `path` is decoded, begins with `/` and still has its `.git` where the client wrote one. */
  | { readonly kind: 'advertise'; readonly service: HttpService; readonly path: string }
  | { readonly kind: 'exchange'; readonly service: HttpService; readonly path: string }
  | { readonly kind: 'refused'; readonly status: 400 | 403 | 404 | 405; readonly text: string; readonly allow?: string }

const TARGET_CHARACTERS_MAX = 4096

const SERVICES: ReadonlyMap<string, HttpService> = new Map([
  ['git-upload-pack', 'upload-pack'],
  ['git-receive-pack', 'receive-pack'],
])

const NOT_FOUND = 'there is nothing at this address; a repository is at /<upstream>/<path>.git'
const DUMB = 'the dumb HTTP protocol is not offered here; use a git client that speaks smart HTTP'
const LFS = 'Git LFS is not offered at this address'
const ARCHIVE = 'git archive --remote is not offered over HTTP; use the SSH address'

// What a dumb client, or somebody looking for a served .git folder, asks for.
const DUMB_PATH = /\/(?:HEAD|packed-refs|config|description|(?:objects|refs|hooks|logs)\/.*)$/

/** Which of the few things we serve a request line asks for. `target` is the request-target as it was sent. */
export function route(method: string, target: string): Route {
  if (method !== 'GET' && method !== 'POST' && method !== 'HEAD') return wrongMethod('GET, HEAD, POST')
  const [rawPath = '', ...queries] = target.split('?')
  // Absolute form (`GET http://host/…`) is for forward proxies; `*` for OPTIONS.
  if (!rawPath.startsWith('/') || target.length > TARGET_CHARACTERS_MAX || queries.length > 1)
    return refused(404, NOT_FOUND)
  if (rawPath === '/healthz') return method === 'POST' ? wrongMethod('GET, HEAD') : { kind: 'health' }
  const path = decodePath(rawPath)
  if (path === undefined) return refused(404, NOT_FOUND)

  if (path.endsWith('/info/refs')) return infoRefs(method, path.slice(0, -'/info/refs'.length), queries[0] ?? '')
  const slash = path.lastIndexOf('/')
  const service = SERVICES.get(path.slice(slash + 1))
  if (service) {
    if (method !== 'POST') return wrongMethod('POST')
    if (queries.length > 0) return refused(400, 'a service takes no query')
    return { kind: 'exchange', service, path: path.slice(0, slash) }
  }
  if (path.endsWith('/git-upload-archive')) return refused(403, ARCHIVE)
  if (path.includes('/info/lfs')) return refused(404, LFS)
  if (DUMB_PATH.test(path) || path.includes('/info/')) return refused(403, DUMB)
  return refused(404, NOT_FOUND)
}

function infoRefs(method: string, path: string, query: string): Route {
  if (method !== 'GET') return wrongMethod('GET')
  // Compared whole: of two `service` parameters the gate would judge one and the host might serve the other.
  const service = query.startsWith('service=') ? SERVICES.get(query.slice('service='.length)) : undefined
  if (service) return { kind: 'advertise', service, path }
  if (query === '') return refused(403, DUMB)
  if (query === 'service=git-upload-archive') return refused(403, ARCHIVE)
  return refused(400, 'info/refs takes ?service=git-upload-pack or ?service=git-receive-pack and nothing else')
}

function refused(status: 400 | 403 | 404, text: string): Route {
  return { kind: 'refused', status, text }
}

function wrongMethod(allow: string): Route {
  return { kind: 'refused', status: 405, text: `this address takes ${allow} only`, allow }
}

/**
 * Percent-decodes a path once, as strict UTF-8.
 *
 * @returns undefined for broken or overlong encodings, and where an encoded byte would mean something else to the next
 *   reader than to us: a separator (`%2f`, `%5c`), a control byte, or a percent sign to decode again (`%252e`)
 */
export function decodePath(raw: string): string | undefined {
  let path: string
  try {
    // decodeURIComponent is strict about UTF-8: `%c0%af`, an overlong `/`, throws.
    path = decodeURIComponent(raw)
  } catch {
    return undefined
  }
  if (/[\0-\x1f\x7f\\%]/.test(path)) return undefined
  if (path.split('/').length !== raw.split('/').length) return undefined
  return path
}
