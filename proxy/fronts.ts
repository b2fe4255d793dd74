import { readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { OperationRefused, SigninRefused } from '../audit/record.ts'
import type { AuthorityClient } from '../ca/client.ts'
import { keepTls, tlsNames } from '../ca/keeptls.ts'
import type { Settings } from '../config/settings.ts'
import type { Store } from '../grant/store.ts'
import type { Front } from './accept.ts'
import type { FollowedAuthority } from './authority.ts'
import type { Serve } from './client.ts'
import type { ControlPlane } from './control.ts'
import { startHttpFront } from './http/front.ts'
import { identifier } from './identify.ts'
import { repositoryName } from './repository.ts'
import type { Siblings } from './siblings.ts'
import { readSource } from './source.ts'
import { publicHostKey, startSshFront } from './ssh/front.ts'
import { type HostCertificates, hostNames, keepHostCertificates } from './ssh/hostcertificate.ts'
import { signInBy } from './ssh/signin.ts'
import type { Taken } from './taken.ts'
import { createThrottle } from './throttle.ts'
import { words } from './words.ts'

/** What people reach: HTTP and SSH, whichever the settings name, with the certificates that are shown there. */
export interface Fronts {
  readonly urls: Readonly<Record<string, string>>
  sshConnections(): number
  /** Takes over the certificate of HTTP; throws and changes nothing when it cannot. */
  reload(settings: Settings): Promise<void>
  /** The authority has changed: the certificate of SSH may have to be another. */
  recheck(): void
  /** Takes no new connections, and resolves when those that are open came to what they came for. */
  retire(): Promise<void>
  /** Takes no new connections, and breaks off those that are open after so many milliseconds. */
  close(grace: number): Promise<void>
  /** Lets go of everything. */
  stop(): Promise<void>
}

/** Listens. Who comes is recognised here, and what they want is handed to `serve`. */
export async function startFronts(options: {
  readonly settings: Settings
  readonly limits: Settings['limits']
  taken(): Taken
  readonly serve: Serve
  readonly store: Store
  readonly control: ControlPlane
  /** Both or none, as the settings name a certificate authority. */
  readonly signer: AuthorityClient | undefined
  readonly authority: FollowedAuthority | undefined
  readonly siblings: Siblings | undefined
  /** Somebody whom the gate knows was refused before the gate was asked. */
  onRefused(refused: OperationRefused): void
  onSigninRefused(refused: SigninRefused): void
  readonly log: Logger
}): Promise<Fronts> {
  const { settings, limits, taken, serve, store, control, signer, authority, siblings, log } = options
  const { onRefused, onSigninRefused } = options
  const { listen } = settings
  await using owned = new AsyncDisposableStack()

  const isLoadBalancer = (address: string) => taken().isLoadBalancer(address)
  const throttleOf = (front: Front) => {
    const throttle = createThrottle({ now: () => performance.now() })
    return siblings?.share(front, throttle) ?? throttle
  }
  const accept = siblings && { accept: siblings.accept }

  if (listen.http?.tls?.issued && signer) {
    const names = tlsNames(settings.publicHttp, listen.http)
    const kept = await keepTls({ client: signer, file: listen.http.tls.certificate, names, log })
    owned.defer(() => kept.stop())
  }
  const identify = identifier({ tokenKeys: () => store.tokenKeys(), now: Date.now })
  const http =
    listen.http &&
    (await startHttpFront({
      listen: listen.http,
      ...accept,
      throttle: throttleOf('http'),
      limits,
      isLoadBalancer,
      serve,
      identify: ({ token }, origin) => identify(token, origin),
      resolveRepository: repositoryName,
      onSigninRefused,
      onRefused,
      log,
    }))
  if (http) owned.defer(() => http.close(0))

  const signIn = signInBy(
    control,
    async fingerprint => (await store.findKey(fingerprint)) !== undefined,
    error => log.warn({ err: error }, 'nobody can be signed in'),
  )
  const hostKeys = await Promise.all(settings.ssh.hostKeys.map(file => readFile(file)))
  const sshd =
    listen.ssh &&
    (await startSshFront({
      listen: listen.ssh,
      ...accept,
      hostKeys,
      serve,
      login: {
        findKey: fingerprint => store.findKey(fingerprint),
        ...(authority && { learn: () => authority.learn() }),
        isAuthority: blob => taken().authorities.has(blob.toString('base64')) || authority?.isAuthority(blob) === true,
        // By whichever authority: the list may name a key.
        isRevoked: certificate => authority?.isRevoked(certificate) === true,
        now: Date.now,
        ...(settings.login && settings.control && { signIn }),
      },
      resolveRepository: repositoryName,
      commands: words({ store, control }),
      limits,
      readSource: socket => readSource(socket, isLoadBalancer, limits.headers),
      throttle: throttleOf('ssh'),
      onRefused: onSigninRefused,
      log: (message, facts) => log.info(facts ?? {}, message),
    }))
  if (sshd) owned.defer(() => sshd.close(0))

  let hostCertificates: HostCertificates | undefined
  if (sshd && listen.ssh && signer && authority) {
    await authority.learn()
    hostCertificates = await keepHostCertificates({
      client: signer,
      keys: hostKeys.map(publicHostKey),
      names: hostNames(settings.publicSsh, listen.ssh),
      isAuthority: blob => !authority.known() || authority.isHostAuthority(blob),
      use: lines => sshd.certify(lines),
      log,
    })
    owned.defer(() => hostCertificates?.stop())
  }

  const rest = owned.move()
  return {
    urls: {
      ...(http && { http: `${listen.http?.tls ? 'https' : 'http'}://${http.address.host}:${http.address.port}` }),
      ...(sshd && { ssh: `ssh://git@${sshd.address.address}:${sshd.address.port}` }),
    },
    sshConnections: () => sshd?.connections() ?? 0,
    reload: async next => {
      if (http && next.listen.http?.tls) await http.reload(next.listen.http.tls)
    },
    recheck: () => hostCertificates?.recheck(),
    retire: async () => {
      await Promise.all([http?.retire(), sshd?.retire()])
    },
    close: async grace => {
      await Promise.all([http?.close(grace), sshd?.close(grace)])
    },
    stop: () => rest.disposeAsync(),
  }
}
