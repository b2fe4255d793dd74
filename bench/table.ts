export interface Row {
  readonly what: string
  readonly way: string
  readonly value: string
  /** Against doing it directly, unless `over` says otherwise. */
  readonly ratio?: number
  readonly over?: string
  /** CPU seconds of the proxy for each gigabyte. */
  readonly cpuPerGigabyte?: number
}

/** The rows as a Markdown table, with what they were measured on. */
export function table(
  rows: readonly Row[],
  machine: string,
  { size, rounds }: { size: number; rounds: number },
): string {
  const lines = rows.map(({ what, way, value, ratio, over, cpuPerGigabyte }) => {
    const times = ratio === undefined ? '' : `${ratio.toFixed(2)} ×${over ? ` ${over}` : ''}`
    const cpu = cpuPerGigabyte === undefined ? '' : cpuPerGigabyte.toFixed(2)
    return `| ${what} | ${way} | ${value} | ${times} | ${cpu} |`
  })
  return [
    `Measured on ${machine}; ${size / 1e6} MB; medians of ${rounds} interleaved rounds.`,
    '',
    '| work | way | figure | over direct | proxy CPU s/GB |',
    '|---|---|---|---|---|',
    ...lines,
    '',
  ].join('\n')
}
