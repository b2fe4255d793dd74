import { chmod, mkdir, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Server as TlsServer } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import type { AuthorityClient } from '../ca/client.ts'
import { keepTls, tlsNames } from '../ca/keeptls.ts'
import type { Settings, Tls } from '../config/settings.ts'
import { adminSocket } from '../config/sockets.ts'
import { OPERATOR } from './api/access.ts'
import type { Control } from './api/control.ts'
import { createApi } from './api.ts'

/** Where the API is reached. */
export interface Listening {
  readonly urls: { readonly admin: string; readonly local?: string }
  /** Takes over the certificate; throws and changes nothing when it cannot. */
  reload(settings: Settings): Promise<void>
  close(): Promise<void>
}

/** Listens as the settings say, and on a socket file for the operator of this machine. */
export async function listen(
  settings: Settings,
  served: Omit<Control, 'places'>,
  { authority, log }: { readonly authority: AuthorityClient | undefined; readonly log: Logger },
): Promise<Listening> {
  const { admin } = settings.listen
  const address = () => addressOf(api, admin.tls ? 'https' : 'http')
  const control = { ...served, places: placesOf(settings, address) }
  const showTls = async ({ tls }: Settings['listen']['admin']) => {
    if (tls && api.server instanceof TlsServer) api.server.setSecureContext(await readTls(tls))
  }
  const tls =
    admin.tls?.issued && authority
      ? await keepTls({
          client: authority,
          file: admin.tls.certificate,
          names: tlsNames(settings.publicAdmin, admin),
          renewed: () => void showTls(admin).catch(error => log.error({ err: error }, 'the TLS certificate')),
          log,
        })
      : undefined
  const api: FastifyInstance = await createApi(control, { log, ...(admin.tls && { tls: await readTls(admin.tls) }) })
  await api.listen({ host: admin.host, port: admin.port })
  const local = await listenLocally(control, settings.state, log)

  return {
    urls: { admin: address(), ...(local && { local: local.url }) },
    reload: next => showTls(next.listen.admin),
    close: async () => {
      tls?.stop()
      await api.close()
      await local?.close()
    },
  }
}

/**
 * The same API on a socket file that only this account can open, and without a token: how an operator makes the first one. Whoever
 * can open it could read the signing key beside it.
 */
async function listenLocally(control: Control, state: string, log: Logger) {
  const path = adminSocket(state)
  const folder = dirname(path)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await chmod(folder, 0o700)
  // What a killed process left; one that lives keeps its own open, only nobody finds it any more.
  await rm(path, { force: true })
  const api = await createApi(control, { log, everybody: OPERATOR })
  try {
    await api.listen({ path })
    await chmod(path, 0o600)
    return { url: `unix:${path}`, close: () => api.close() }
  } catch (cause) {
    await api.close()
    log.warn({ err: cause, path }, 'no local socket; the API is on its listener only')
    return undefined
  }
}

async function readTls(tls: Tls): Promise<{ cert: string; key: string }> {
  const [cert, key] = await Promise.all([readFile(tls.certificate, 'utf8'), readFile(tls.key, 'utf8')])
  return { cert, key }
}

function addressOf(api: FastifyInstance, scheme: string): string {
  const address = api.server.address()
  if (address === null || typeof address === 'string') return String(address)
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `${scheme}://${host}:${address.port}`
}

/** Where people reach the gate: as the settings say, else where this machine listens, for a gate on one's own. */
function placesOf(
  { publicHttp, publicSsh, publicAdmin, listen, upstreams }: Settings,
  admin: () => string,
): Control['places'] {
  const { http: web, ssh: shell } = listen
  const http =
    publicHttp ?? (web && web.port !== 0 ? `${web.tls ? 'https' : 'http'}://${web.host}:${web.port}` : undefined)
  const ssh = publicSsh ?? (shell && shell.port !== 0 ? `ssh://git@${shell.host}:${shell.port}` : undefined)
  return {
    ...(http && { http }),
    ...(ssh && { ssh }),
    admin: () => publicAdmin ?? admin(),
    upstreams: remotesOf(upstreams),
  }
}

function remotesOf(upstreams: Settings['upstreams']): { name: string; url: string }[] {
  return [...upstreams.values()]
    .filter(({ url }) => url.protocol !== 'file:')
    .map(({ name, url }) => ({ name, url: url.href }))
}
