import { z } from 'zod'
import { isHere, matching, publicUrl, secret, section, text } from './value.ts'

const api = (usual: string) =>
  publicUrl('https://', 'http://')
    .refine(
      written => written.startsWith('https://') || isHere(new URL(written)),
      'expected https:// to another machine',
    )
    .prefault(usual)
    .transform(written => new URL(`${written}/`))

const source = {
  token: secret("a token that may read, as the service's API has it"),
  schedule: text('the id of a schedule').describe("The schedule's id there."),
}

const kinds = {
  pagerduty: section({ type: z.literal('pagerduty'), ...source, api: api('https://api.pagerduty.com/') }),
  opsgenie: section({ type: z.literal('opsgenie'), ...source, api: api('https://api.opsgenie.com/') }),
}

export const onCall = z
  .record(
    matching(/^[\p{L}\p{N}][\p{L}\p{N}._@:/+-]{0,119}$/u, 'a name such as the policy has after on-call:'),
    z.discriminatedUnion('type', [kinds.pagerduty, kinds.opsgenie], {
      error: `expected a mapping whose type is ${Object.keys(kinds).join(' or ')}`,
    }),
  )
  .transform(named => Object.entries(named).map(([name, said]) => ({ name, ...said })))
