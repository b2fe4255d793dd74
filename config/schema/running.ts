import { z } from 'zod'
import { duration, HOUR, list, MINUTE, publicUrl, secret, section, size, text, whole } from './value.ts'

export const limits = section({
  commands: whole(1, 1_000_000).prefault(10_000).describe('Ref updates in one push.'),
  connections_per_source: whole(1, 1_000_000).prefault(100).describe('Connections from one client address.'),
  connections: whole(1, 1_000_000).prefault(10_000).describe('Connections in all, each listener.'),
  login_grace: duration(1_000, 10 * MINUTE)
    .prefault('30s')
    .describe('Time an SSH client has to log in.'),
  login_attempts: whole(1, 100).prefault(6).describe('Attempts to log in on one SSH connection.'),
  channels: whole(1, 1_000).prefault(10).describe('Channels at once on one SSH connection.'),
  headers: duration(1_000, 10 * MINUTE)
    .prefault('15s')
    .describe("Time an HTTP client has to send a request's head."),
  body_idle: duration(1_000, 6 * HOUR)
    .prefault('5m')
    .describe('Longest wait for the next byte from or to a client.'),
  total: duration(MINUTE, 30 * 24 * HOUR)
    .prefault('12h')
    .describe('Longest operation.'),
  drain: duration(0, 24 * HOUR)
    .prefault('60s')
    .describe('Time running operations have to finish after SIGTERM.'),
  redis_silence: duration(100, 5 * MINUTE)
    .prefault('3s')
    .describe('How long Redis may be unreachable before everything running is cut.'),
})

export const reuse = section({
  enabled: z
    .boolean({ error: 'expected true or false' })
    .default(false)
    .describe('Whether clients that fetch the same share one answer of the host.'),
  ttl: duration(0, HOUR).prefault('60s').describe('How long an answer is kept after it was whole; 0s: not at all.'),
  bytes: size(16 << 20, 2 ** 44)
    .prefault('4GiB')
    .describe('Most disk for answers, for each proxy.'),
  folder: text('the path of a folder').optional().describe('Where answers lie; `NAME/reuse` below state unless given.'),
})

export const ssh = section({
  host_keys: list(text('the path of a private key'), 'a list of paths')
    .default([])
    .describe('Paths of private host keys; none: one is made below state.'),
  trusted_user_ca_keys: list(text('a public key: "ssh-ed25519 AAAA…"'), 'a list of public keys')
    .default([])
    .describe('User certificate authorities trusted beside our own, as in TrustedUserCAKeys.'),
})

export const ca = section({
  directory: text('the path of a folder')
    .optional()
    .describe('Private to the certificate authority; `ca` below state unless given.'),
  socket: text('the path of a unix socket')
    .optional()
    .describe('Where the authority is asked; `ca.sock` below state unless given.'),
  passphrase: secret('a passphrase').optional().describe('Of the keys kept in files.'),
  vault: section({
    address: publicUrl('https://', 'http://').describe("Vault's address: https://vault.example.org:8200."),
    token_file: text('the path of a file').describe('Holds the token; read at each use.'),
    mount: text('a path in Vault').optional().describe("The transit engine's mount; `transit` unless given."),
    namespace: text('a namespace of Vault').optional(),
  })
    .optional()
    .describe("For keys kept in HashiCorp Vault's transit engine."),
  kms: section({
    credentials_file: text('the path of a file').describe(
      'Holds what `aws configure export-credentials` prints; read at each use.',
    ),
    endpoint: publicUrl('https://', 'http://').optional().describe("Instead of the region's: a VPC endpoint."),
  })
    .optional()
    .describe('For keys kept in AWS KMS.'),
})

const CONTROL_FORM = 'https://HOST:PORT, or http://127.0.0.1:PORT on the same machine'

export const control = section({
  url: publicUrl('https://', 'http://')
    .refine(
      // The token would be everybody's on the way.
      written => /^https:|^http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(\/|$)/.test(written),
      { error: `expected ${CONTROL_FORM}` },
    )
    .describe('The admin address of the control plane, by which `ssh GATE request` and the like ask it.'),
  token_file: text('the path of a file').describe(
    'Holds a token with the role front, by which this gate speaks for who logged in over SSH; read at each use.',
  ),
  ca_file: text('the path of a file').optional().describe('Certificates to trust besides, PEM.'),
})
