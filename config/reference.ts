import { readFileSync, writeFileSync } from 'node:fs'
import { jsonSchema } from './schema.ts'

/** The table of settings in docs/operator.md, made from the schema: `node config/reference.ts` puts it there. */

interface Node {
  readonly properties?: Readonly<Record<string, Node>>
  readonly additionalProperties?: Node | boolean
  readonly anyOf?: readonly Node[]
  readonly description?: string
  readonly default?: unknown
  readonly required?: readonly string[]
}

const BEGIN = '<!-- settings: made by node config/reference.ts -->'
const END = '<!-- end of settings -->'

/** One row a setting: its path, its default, what it is. */
export function settingsTable(): string {
  const rows = ['| setting | default | |', '|---|---|---|', ...rowsOf(jsonSchema() as Node, '')]
  return `${rows.join('\n')}\n`
}

/** A document with the table in its place. */
export function withSettingsTable(document: string): string {
  const [before, rest] = document.split(BEGIN)
  const after = rest?.split(END)[1]
  if (after === undefined) throw new Error(`the document has no "${BEGIN}" … "${END}"`)
  return `${before}${BEGIN}\n${settingsTable()}${END}${after}`
}

function rowsOf(node: Node, path: string): string[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const name = path === '' ? key : `${path}.${key}`
    if (child.properties) return rowsOf(child, name)
    const required = node.required?.includes(key) && child.default === undefined
    const fallback = required ? 'required' : child.default === undefined ? '' : `\`${JSON.stringify(child.default)}\``
    const row = `| \`${name}\` | ${fallback} | ${(child.description ?? '').replaceAll('|', '\\|')} |`
    const entries = child.additionalProperties
    return typeof entries === 'object' && entries.properties ? [row, ...rowsOf(entries, `${name}.NAME`)] : [row]
  })
}

if (import.meta.main) {
  const file = new URL('../docs/operator.md', import.meta.url)
  writeFileSync(file, withSettingsTable(readFileSync(file, 'utf8')))
}
