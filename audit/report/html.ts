import { escapeHtml } from '../escape.ts'
import type { Report, Section } from './section.ts'

// One file that needs nothing else, and asks for nothing: no script, no font, no image. Nothing in it is run, because the policy in
// its head forbids it and because everything that is not ours is escaped.

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1e21; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem }
.evidence { color: #57606a; font-size: .85rem; margin: 0 }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #d8dee4; overflow-wrap: anywhere }
td.n { text-align: right; font-variant-numeric: tabular-nums }
dt { color: #57606a; font-size: .85rem } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
.done { fill: #2f6fab } .refused { fill: #c4422b } svg text { font-size: 11px; fill: #57606a }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } tr { break-inside: avoid } }
`

/** The report as one HTML file. */
export function html(report: Report): string {
  const { title, since, until, facts, sections } = report
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(since)} to ${escapeHtml(until)}</p>
<dl>${facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>
${plot(report.days)}
${sections.map(section).join('\n')}
</body>
</html>
`
}

function section({ title, evidence, note, columns, rows, more }: Section): string {
  const head = `<tr>${columns.map(name => `<th>${escapeHtml(name)}</th>`).join('')}</tr>`
  const cells = (row: Section['rows'][number]) =>
    row
      .map(value => (typeof value === 'number' ? `<td class="n">${value}</td>` : `<td>${escapeHtml(value)}</td>`))
      .join('')
  const table =
    rows.length === 0
      ? '<p>None.</p>'
      : `<table><thead>${head}</thead><tbody>${rows.map(row => `<tr>${cells(row)}</tr>`).join('\n')}</tbody></table>`
  return `<section>
<h2>${escapeHtml(title)}</h2>
<p class="evidence">Evidence for: ${escapeHtml(evidence)}</p>
<p>${escapeHtml(note)}</p>
${table}${more === undefined ? '' : `<p>${escapeHtml(more)}</p>`}
</section>`
}

const WIDTH = 900
const HEIGHT = 120
const BARS_MAX = 120

/** Operations and refusals by day, or by several days where there are many. */
function plot(days: Report['days']): string {
  if (days.length < 2) return ''
  const per = Math.ceil(days.length / BARS_MAX)
  const bars = Array.from({ length: Math.ceil(days.length / per) }, (_, i) => {
    const together = days.slice(i * per, (i + 1) * per)
    const sum = (name: 'done' | 'refused') => together.reduce((total, day) => total + day[name], 0)
    return { day: together[0]!.day, done: sum('done'), refused: sum('refused') }
  })
  const most = Math.max(1, ...bars.map(({ done, refused }) => done + refused))
  const step = WIDTH / bars.length
  const high = (count: number) => (count / most) * HEIGHT
  const rect = (name: string, i: number, from: number, height: number) =>
    `<rect class="${name}" x="${(i * step).toFixed(1)}" y="${(HEIGHT - from - height).toFixed(1)}" width="${Math.max(step - 1, 0.5).toFixed(1)}" height="${height.toFixed(1)}"/>`
  const drawn = bars.map(({ day, done, refused }, i) => {
    const told = `<title>${escapeHtml(day)}: ${done} operations, ${refused} refused</title>`
    return `<g>${told}${rect('done', i, 0, high(done))}${rect('refused', i, high(done), high(refused))}</g>`
  })
  const label = `Operations (blue) and refusals (red), ${per === 1 ? 'by day' : `${per} days a bar`}; the highest bar is ${most}`
  return `<figure><svg viewBox="0 0 ${WIDTH} ${HEIGHT + 16}" role="img" aria-label="${escapeHtml(label)}">
${drawn.join('\n')}
<text x="0" y="${HEIGHT + 13}">${escapeHtml(bars[0]!.day)}</text>
<text x="${WIDTH}" y="${HEIGHT + 13}" text-anchor="end">${escapeHtml(bars.at(-1)!.day)}</text>
</svg><figcaption>${escapeHtml(label)}</figcaption></figure>`
}
