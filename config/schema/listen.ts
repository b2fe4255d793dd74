import { z } from 'zod'
import { ADDRESS_FORM, address, section, text } from './value.ts'

const files = section({
  certificate: text('the path of a PEM file with the certificate and its chain').describe(
    'Path of the PEM file with the certificate and its chain; read again when it changes.',
  ),
  key: text("the path of a PEM file with the certificate's key").describe(
    "Path of the PEM file with the certificate's key.",
  ),
})

/** `ca`: the gate's own authority makes the certificate and renews it. */
const tls = z.union([z.literal('ca'), files], { error: 'expected { certificate, key }, or ca' })

const off = z.literal(['off', false]).transform(() => undefined)

export function listener(fallback: string) {
  const plain = address.transform(at => at)
  const withTls = section({ address, tls: tls.optional() }).transform(({ address: at, tls }) => ({
    ...at,
    ...(tls ? { tls } : {}),
  }))
  return z
    .union([off, plain, withTls], {
      error: `expected ${ADDRESS_FORM}, or { address, tls: { certificate, key } or ca }, or off`,
    })
    .prefault(fallback)
}

export const listen = section({
  http: listener('127.0.0.1:8080').describe('Where git speaks HTTP.'),
  ssh: z
    .union([off, address], { error: `expected ${ADDRESS_FORM}, or off` })
    .prefault('127.0.0.1:2222')
    .describe('Where git speaks SSH.'),
  admin: z
    .union(
      [
        address,
        section({ address, tls: tls.optional() }).transform(({ address: at, tls }) => ({
          ...at,
          ...(tls ? { tls } : {}),
        })),
      ],
      {
        error: `expected ${ADDRESS_FORM}, or { address, tls: { certificate, key } or ca }`,
      },
    )
    .prefault('127.0.0.1:8081')
    .describe('Where the admin API and the console are.'),
  metrics: section({
    proxy: address.optional().describe('Where a proxy answers /metrics, /healthz and /readyz.'),
    admin: address.optional().describe('Where the admin role answers them, besides its own listener.'),
    ca: address.optional().describe('Where the ca role answers them.'),
  }).optional(),
})
