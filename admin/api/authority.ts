import type { FastifyInstance } from 'fastify'
import { knownHostsLines, trustedUserCaKeys } from '../../ca/authority.ts'
import { encodeKrl } from '../../ca/krl.ts'
import type { Trust } from '../../ca/trust.ts'
import type { Control } from './control.ts'
import { Problem } from './problem.ts'

/**
 * What hosts and developers need to trust the authority, as the files OpenSSH reads. For everybody who can reach this listener: public
 * keys, and what is revoked. An answer has its length in front, so that a transfer that was cut short is seen to be.
 */
export async function authorityFiles(
  app: FastifyInstance,
  { trust, authority, places }: Pick<Control, 'trust' | 'authority' | 'places'>,
) {
  app.get('/ca/krl', { schema: { hide: true } }, async (_, reply) => {
    const { krl } = known()
    return reply.type('application/octet-stream').header('cache-control', 'no-cache').send(encodeKrl(krl))
  })
  app.get('/ca/user-keys', { schema: { hide: true } }, async (_, reply) => {
    return reply.type('text/plain').header('cache-control', 'no-cache').send(trustedUserCaKeys(known().user))
  })
  app.get('/ca/known_hosts', { schema: { hide: true } }, async (_, reply) => {
    const { host } = known()
    const { ssh } = places
    if (ssh === undefined) {
      throw new Problem(
        404,
        'no-ssh',
        'it is not known by which name people reach this gate over SSH',
        'set public_ssh',
      )
    }
    return reply
      .type('text/plain')
      .header('cache-control', 'no-cache')
      .send(knownHostsLines(host, [hostPattern(ssh)]))
  })

  app.get('/ca/tls-root', { schema: { hide: true } }, async (_, reply) => {
    if (authority === undefined) throw new Problem(404, 'no-authority', 'this gate has no certificate authority')
    const root = await authority.tlsRoot().catch((cause: unknown) => {
      app.log.warn({ err: cause }, 'the root of the TLS certificates')
      throw unreachable()
    })
    if (root === undefined) {
      throw new Problem(404, 'no-root', 'the authority has given no TLS certificate', 'set tls: ca of a listener')
    }
    return reply.type('application/x-pem-file').header('cache-control', 'no-cache').send(root)
  })

  function known(): Trust {
    if (trust === undefined) throw new Problem(404, 'no-authority', 'this gate has no certificate authority')
    const found = trust.trust()
    if (found === undefined) {
      throw unreachable()
    }
    return found
  }
}

const unreachable = () =>
  new Problem(503, 'authority-unreachable', 'the certificate authority has not answered yet', 'is the role ca running?')

/** As ssh looks a host up: `[name]:port` for any port but 22. */
function hostPattern(ssh: string): string {
  const { hostname, port } = new URL(ssh)
  return port === '' || port === '22' ? hostname : `[${hostname}]:${port}`
}
