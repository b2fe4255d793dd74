import type { Figure } from './table.ts'

const WIDTH = 760
const LABELS = 330
const BAR = 14
const GAP = 10
const COLOURS: Readonly<Record<string, string>> = { drawbridge: '#2f6f4f', nginx: '#8aa4b8' }
const OTHER = '#b8b0a0'

/** The ratios over direct as bars, for the README; the line at 1 is doing it directly. */
export function picture(figures: readonly Figure[], caption: string): string {
  const bars = figures.filter(
    (figure): figure is Figure & { ratio: number } => figure.ratio !== undefined && figure.over === undefined,
  )
  const most = Math.max(2, ...bars.map(({ ratio }) => ratio))
  const scale = (WIDTH - LABELS - 60) / most
  const one = LABELS + scale
  const height = bars.length * (BAR + GAP) + 60
  const lines = bars.map(({ what, way, ratio }, i) => {
    const y = 30 + i * (BAR + GAP)
    const fill = COLOURS[way] ?? (way.startsWith('drawbridge') ? COLOURS.drawbridge : OTHER)
    return [
      `<text x="${LABELS - 8}" y="${y + 11}" text-anchor="end">${escaped(`${what}: ${way}`)}</text>`,
      `<rect x="${LABELS}" y="${y}" width="${(ratio * scale).toFixed(1)}" height="${BAR}" fill="${fill}"/>`,
      `<text x="${(LABELS + ratio * scale + 6).toFixed(1)}" y="${y + 11}">${ratio.toFixed(2)}</text>`,
    ].join('\n')
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="11" role="img">
<title>Time, or rate, of each way over doing it directly</title>
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="${LABELS}" y="16" font-weight="bold">over direct</text>
${lines.join('\n')}
<line x1="${one}" x2="${one}" y1="22" y2="${height - 28}" stroke="#333333" stroke-dasharray="3 3"/>
<text x="8" y="${height - 10}" font-size="9" fill="#555555">${escaped(caption)}</text>
</svg>
`
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, character => `&#${character.charCodeAt(0)};`)
}
