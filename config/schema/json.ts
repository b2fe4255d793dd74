import { z } from 'zod'

/** The JSON Schema of the file, for editors: what may be written, before `${NAME}` and `{ file }` are filled in. */
export function toJsonSchema(settings: z.ZodType): unknown {
  const schema = z.toJSONSchema(settings, { io: 'input', target: 'draft-2020-12', reused: 'inline' })
  return {
    $schema: schema.$schema,
    title: 'drawbridge.yaml',
    description:
      'Settings of the Drawbridge Git gate. Any text or number may also be ${NAME} (environment) or { file: PATH }.',
    ...(fromElsewhere(schema) as object),
    $defs: {
      elsewhere: {
        anyOf: [
          { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' },
          { type: 'object', properties: { file: { type: 'string' } }, required: ['file'], additionalProperties: false },
        ],
      },
    },
  }
}

/** Every leaf may come from the environment or from a file; zod does not know, because that is filled in before it reads. */
function fromElsewhere(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(fromElsewhere)
  if (typeof node !== 'object' || node === null) return node
  const { propertyNames, default: fallback, description, ...rest } = node as Record<string, unknown>
  const notes = {
    ...(description === undefined ? {} : { description }),
    ...(fallback === undefined ? {} : { default: fallback }),
  }
  const inner = Object.fromEntries(
    Object.entries(rest).map(([key, value]) => [key, KEPT.has(key) ? value : fromElsewhere(value)]),
  )
  const leaf =
    ['string', 'integer', 'number'].includes(String(rest.type)) && rest.const === undefined && rest.enum === undefined
  const names = propertyNames === undefined ? {} : { propertyNames }
  return leaf ? { ...notes, anyOf: [inner, { $ref: '#/$defs/elsewhere' }] } : { ...notes, ...inner, ...names }
}

const KEPT = new Set(['$schema', 'enum', 'const', 'required', 'pattern'])
