import { stat } from 'node:fs/promises'
import { connect as connectSocket, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import ssh2 from 'ssh2'
import { authorityClient } from '../../ca/client.ts'
import type { Settings, UpstreamSettings } from '../../config/settings.ts'
import { readHostKeys } from '../../proxy/upstream/ssh/hostkey.ts'
import { examine, type Finding, failed, ok } from './finding.ts'
import { dates } from './machine.ts'

/**
 * The Git hosts, and our own authority: whether they can be reached, and are who they should be. Nobody logs in: a credential is only
 * shown to a host when an operation wants it.
 */
export async function upstreamFindings(settings: Settings, now: number): Promise<readonly Finding[]> {
  const hosts = [...settings.upstreams.values()].map(upstream => {
    const advice = `see that this machine reaches ${upstream.url.host || 'it'}, and that the URL of ${upstream.name} is right`
    return examine(`upstream.${upstream.name}`, advice, signal => hostFinding(upstream, signal, now))
  })
  return (await Promise.all([...hosts, authorityFindings(settings)])).flat()
}

async function hostFinding(upstream: UpstreamSettings, signal: AbortSignal, now: number): Promise<Finding> {
  const { url } = upstream
  if (url.protocol === 'file:') return folderFinding(upstream)
  if (url.protocol === 'ssh:') return await sshFinding(upstream, signal)
  const check = `upstream.${upstream.name}`
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const secure = url.protocol === 'https:'
  const port = Number(url.port || (secure ? 443 : 80))
  if (!secure) {
    await reached(connectSocket({ host, port, signal }), 'connect')
    return ok(check, `${url.host} takes connections`)
  }
  const socket = connectTls({ host, port, servername: /^[\d.]+$|:/.test(host) ? '' : host })
  signal.addEventListener('abort', () => socket.destroy(), { once: true })
  const certificate = await reached(socket, 'secureConnect', () => (socket as TLSSocket).getPeerX509Certificate())
  if (certificate === undefined)
    return failed(check, `${url.host} shows no certificate`, 'look at the TLS settings of that host')
  const { check: _, ...dated } = dates(check, `the certificate of ${url.host}`, certificate, now)
  return { check, ...dated }
}

/** Waits for the event, takes what is asked for there, and lets go of the connection. */
function reached<T>(socket: Socket, event: string, take?: () => T): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => {
      resolve(take?.())
      socket.destroy()
    })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('the connection was closed')))
  })
}

async function folderFinding({ name, url }: UpstreamSettings): Promise<Finding> {
  const folder = fileURLToPath(url)
  const check = `upstream.${name}`
  return (await stat(folder)).isDirectory()
    ? ok(check, `${folder} is there`)
    : failed(check, `${folder} is no folder`, `set the URL of ${name} to the folder of the repositories`)
}

/** Goes as far as the key exchange, in which the host proves its key. */
function sshFinding(upstream: UpstreamSettings, signal: AbortSignal): Promise<Finding> {
  const { name, url, connectTimeout } = upstream
  const check = `upstream.${name}`
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const keys = readHostKeys(upstream.hostKeys, { host, now: Date.now })
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client()
    let known: boolean | undefined
    const over = () => {
      if (known === undefined) return
      const found = known
        ? `${url.host} shows a key that is pinned`
        : `the key of ${url.host} is none of those in host_keys`
      const advice = `compare: ssh-keyscan ${url.port ? `-p ${url.port} ` : ''}${host}; a key that changed unannounced may be somebody in between`
      resolve(known ? ok(check, found) : failed(check, found, advice))
    }
    signal.addEventListener('abort', () => client.destroy(), { once: true })
    client.on('error', error => {
      over()
      reject(error)
    })
    client.on('close', () => {
      over()
      reject(new Error('the connection was closed'))
    })
    client.connect({
      host,
      port: Number(url.port || 22),
      username: 'doctor',
      readyTimeout: connectTimeout,
      algorithms: { serverHostKey: [...keys.algorithms], compress: ['none'] },
      hostVerifier: (blob: Buffer) => {
        known = keys.verify(blob)
        return known
      },
      // The key is proved by then; there is nothing to log in for.
      authHandler: () => {
        client.end()
        return false
      },
    })
  })
}

function authorityFindings({ ca }: Settings): Promise<readonly Finding[]> {
  if (!ca.configured) return Promise.resolve([])
  const advice = 'start it: drawbridge serve --role ca; a new one is made by: drawbridge ca init'
  return examine('ca.reach', advice, async () => {
    const { user } = await authorityClient(ca.socket).trusted()
    return ok('ca.reach', `the authority answers; ${user.length} user keys are trusted`)
  })
}
