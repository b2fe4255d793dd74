/** A figure of one way of doing some work. */
export interface Figure {
  readonly what: string
  readonly way: string
  readonly value: string
  /** Against doing it directly, unless `over` says otherwise. */
  readonly ratio?: number
  readonly over?: string
  /** CPU seconds of the proxy for each gigabyte. */
  readonly cpuPerGigabyte?: number
}

/** A figure that is to be reached: `most` or `least` says how. */
export interface Goal {
  readonly what: string
  readonly figure: number
  readonly unit: string
  readonly most?: number
  readonly least?: number
}

export interface Results {
  readonly figures: readonly Figure[]
  readonly goals: readonly Goal[]
}

/** As Markdown. */
export function goalTable(goals: readonly Goal[]): string {
  return ['| goal | to reach | figure | reached |', '|---|---|---|---|', ...goals.map(goalLine)].join('\n')
}

/** As Markdown. */
export function figureTable(figures: readonly Figure[]): string {
  const head = ['| work | way | figure | over direct | proxy CPU s/GB |', '|---|---|---|---|---|']
  return [...head, ...figures.map(figureLine)].join('\n')
}

/** Whether it was. NaN, which is what was not measured, never is. */
export function isReached({
  figure,
  most = Number.POSITIVE_INFINITY,
  least = Number.NEGATIVE_INFINITY,
}: Goal): boolean {
  return figure <= most && figure >= least
}

function figureLine({ what, way, value, ratio, over, cpuPerGigabyte }: Figure): string {
  const times = ratio === undefined ? '' : `${ratio.toFixed(2)} ×${over ? ` ${over}` : ''}`
  const cpu = cpuPerGigabyte === undefined ? '' : cpuPerGigabyte.toFixed(2)
  return `| ${what} | ${way} | ${value} | ${times} | ${cpu} |`
}

function goalLine(goal: Goal): string {
  const { what, figure, unit, most, least } = goal
  const bound = [most !== undefined && `≤ ${most}`, least !== undefined && `≥ ${least}`].filter(Boolean).join(', ')
  const digits = Math.abs(figure) >= 10 ? 1 : 2
  return `| ${what} | ${bound} ${unit} | ${figure.toFixed(digits)} ${unit} | ${isReached(goal) ? 'yes' : 'no'} |`
}
