import { z } from 'zod'
import { encryptedUrl, headers, section } from './value.ts'

const RATIO_FORM = 'a number from 0 to 1'
const ratio = z
  .union(
    [
      z.number(),
      z
        .string()
        .regex(/^\d(?:\.\d{1,10})?$/)
        .transform(Number),
    ],
    { error: `expected ${RATIO_FORM}` },
  )
  .refine(share => share >= 0 && share <= 1, { error: `expected ${RATIO_FORM}` })

export const telemetry = section({
  traces: section({
    url: encryptedUrl.describe('Of an OTLP/HTTP receiver, such as https://otel.acme.example/v1/traces.'),
    ratio: ratio.prefault(1).describe('The share of operations that is followed.'),
    headers: headers.describe('Shown to the receiver with each request, such as authorization.'),
    accept_parent: z
      .boolean({ error: 'expected true or false' })
      .default(false)
      .describe(
        'Continue the trace that a request says it belongs to (traceparent). Only behind something of yours that sets it: anybody can send one.',
      ),
  })
    .transform(({ accept_parent: acceptParent, ...traces }) => ({ ...traces, acceptParent }))
    .optional()
    .describe('Operations followed in time, sent to a receiver of OpenTelemetry; left out: none are.'),
})
