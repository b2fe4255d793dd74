/**
 * How the commands speak: data on stdout and nothing else there; what a person reads on stderr, lower case, without a full
 * stop, `drawbridge:` before it; a hint where there is something to do.
 */

/** What a command ends with. */
export const EXIT = {
  ok: 0,
  /** It was refused, or did not come out right. */
  failed: 1,
  /** What was typed makes no sense. */
  usage: 2,
  /** The gate cannot be reached, or cannot reach what it needs. */
  unreachable: 3,
  /** No token, a bad one, or not the role for it. */
  denied: 4,
} as const
export type Exit = (typeof EXIT)[keyof typeof EXIT]

/** Ends a command with a sentence for the person and a status for the program. */
export class CommandError extends Error {
  readonly exit: Exit
  readonly hint: string | undefined
  /** The gate's own word for why, where it was the gate that refused. */
  readonly code: string | undefined
  constructor(exit: Exit, message: string, hint?: string, code?: string) {
    super(message)
    this.name = 'CommandError'
    this.exit = exit
    this.hint = hint
    this.code = code
  }
}

export function say(sentence: string): void {
  process.stderr.write(`drawbridge: ${plain(sentence)}\n`)
}

export function hint(sentence: string): void {
  process.stderr.write(`drawbridge: hint: ${plain(sentence)}\n`)
}

export function data(line: string): void {
  process.stdout.write(`${line}\n`)
}

export function json(value: unknown): void {
  data(JSON.stringify(value))
}

/** Rows under their headings, aligned; nothing at all for no rows. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  if (rows.length === 0) return
  const all = [headings, ...rows.map(row => row.map(plain))]
  const widths = headings.map((_, column) => Math.max(...all.map(row => (row[column] ?? '').length)))
  for (const row of all) {
    data(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
  }
}

/**
 * Without what a terminal acts on: control characters, escapes, and the marks that turn text around (CVE-2021-42574). What
 * others typed ends up here.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}

/** A moment as people read it, in their own time zone, to the second. */
export function when(iso: string): string {
  const at = new Date(iso)
  if (Number.isNaN(at.getTime())) return iso
  const two = (n: number) => String(n).padStart(2, '0')
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
}
