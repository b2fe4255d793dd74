import { z } from 'zod'
import { claimsFault, PRESETS, type Preset, type PresetName } from '../workload.ts'
import { duration, HOUR, isHere, list, MINUTE, matching, secret, section, text, texts } from './value.ts'

const ISSUER_FORM = "the provider's issuer: an https:// URL (http:// on this machine only), without ? and #"

const claimName = (accepts: string) => matching(/^[\x21-\x7e]{1,200}$/, accepts)

const issuer = z.string({ error: `expected ${ISSUER_FORM}` }).transform((written, context) => {
  const url = URL.canParse(written) ? new URL(written) : undefined
  const here = url?.protocol === 'http:' && isHere(url)
  if (url && (url.protocol === 'https:' || here) && !url.username && !url.search && !url.hash) return url
  context.issues.push({ code: 'custom', message: `expected ${ISSUER_FORM}`, input: written })
  return z.NEVER
})

export const login = section({
  issuer: issuer.describe('The issuer of the OpenID Connect provider people sign in with.'),
  client_id: text('the client id the provider has for us').describe('What the provider calls this gate.'),
  client_secret: secret('a client secret').optional().describe('Its secret; none: a public client.'),
  scopes: texts('a scope')
    .default(['openid', 'profile', 'email'])
    .describe('What is asked of the provider; `openid` is always asked.'),
  principal: claimName('the name of a claim')
    .default('preferred_username')
    .describe(
      "The claim that becomes the person's name at the gate; `email` counts only where the provider verified it.",
    ),
  groups: claimName('the name of a claim').default('groups').describe("The claim that lists the person's groups."),
  domains: list(matching(/^[a-z0-9.-]{1,253}$/, 'a domain in lower case'), 'a list of domains')
    .default([])
    .describe('Names must be addresses in one of these domains; none: any name.'),
  require: z
    .record(z.string(), z.union([text('a text').transform(one => [one]), texts('a value')]), {
      error: 'expected a mapping of claims to the value, or values, they must have',
    })
    .default({})
    .describe('Claims that must be there, with the value or values they may have.'),
  roles: section({
    approver: texts('a group').default([]),
    auditor: texts('a group').default([]),
    admin: texts('a group').default([]),
  })
    .prefault({})
    .describe('Groups whose members have a role; everybody who signs in is a developer.'),
  mfa: section({
    amr: texts('a method').default(['mfa', 'hwk', 'otp', 'swk', 'fido', 'sms']),
    acr: texts('a class').default([]),
    required: z.boolean({ error: 'expected true or false' }).default(false),
  })
    .prefault({})
    .describe(
      'Values of the claims `amr` and `acr` that stand for a second factor, and whether nobody signs in without.',
    ),
  lasts: duration(5 * MINUTE, 24 * HOUR)
    .prefault('12h')
    .describe('How long a sign-in is good.'),
  token: duration(MINUTE, HOUR).prefault('15m').describe('How long one token of it is good; renewed by itself.'),
  recheck: duration(MINUTE, HOUR)
    .optional()
    .describe('How often the provider is asked whether somebody is still there, with a refresh token; none: never.'),
})

const presetNames = Object.keys(PRESETS) as PresetName[]

export const workload = section({
  preset: z
    .literal(presetNames, { error: `expected ${presetNames.join(', ')}` })
    .describe(`Which CI system: ${presetNames.join(', ')}.`),
  issuer: issuer.optional().describe('Its issuer, where it is not the usual one of that CI system.'),
  audience: text('the audience jobs ask for').describe('The `aud` tokens must have, and the only one.'),
  claims: z
    .record(z.string(), z.union([text('a text').transform(one => [one]), texts('a value')]), {
      error: 'expected a mapping of claims to the value, or values, they may have',
    })
    .describe(
      'Claims by their value, values, or patterns with `*`; an id that is never given again must be among them.',
    ),
  lasts: duration(MINUTE, 12 * HOUR)
    .prefault('1h')
    .describe('How long the token is good that a job is given.'),
}).superRefine(({ preset, issuer: at, claims }, context) => {
  const known: Preset = PRESETS[preset]
  if (at === undefined && known.issuer === undefined) {
    context.addIssue({
      code: 'custom',
      path: ['issuer'],
      message: `expected the issuer; ${preset} has one for each organisation`,
    })
  }
  const fault = claimsFault(preset, new Map(Object.entries(claims)))
  if (fault !== undefined) context.addIssue({ code: 'custom', path: ['claims'], message: fault })
})
