import type { Report, Section } from './section.ts'

/** The report as Markdown (GitHub's tables). */
export function markdown(report: Report): string {
  const { title, since, until, facts, sections } = report
  return [
    `# ${title}`,
    '',
    `${since} to ${until}`,
    '',
    ...facts.map(([name, value]) => `- ${name}: ${cell(value)}`),
    '',
    ...sections.flatMap(section),
  ].join('\n')
}

function section({ title, evidence, note, columns, rows, more }: Section): string[] {
  const table = [
    `| ${columns.join(' | ')} |`,
    `|${'---|'.repeat(columns.length)}`,
    ...rows.map(row => `| ${row.map(value => cell(String(value))).join(' | ')} |`),
  ]
  return [
    `## ${title}`,
    '',
    `Evidence for: ${evidence}`,
    '',
    note,
    '',
    ...(rows.length === 0 ? ['None.'] : table),
    '',
    ...(more === undefined ? [] : [more, '']),
  ]
}

/** Text as it stands: what people typed is no markup, no link, no HTML and no second cell. */
function cell(text: string): string {
  return text
    .replace(/[\\`*_{}[\]()#+!|~>]|:(?=\/\/)/g, '\\$&')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
}
