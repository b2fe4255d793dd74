/** One thing wrong in a file of the operator's, at one place. */
export interface Problem {
  readonly line: number
  readonly column: number
  /** Where in the document: `upstreams.acme.url`; empty for the document itself. */
  readonly path: string
  /** What was found and what is accepted instead. Holds no secret. */
  readonly message: string
}

/** Everything wrong with a file, in the order of its lines. Its message is the list, one `file:line:column: path: message` a line. */
export class ConfigError extends Error {
  readonly code = 'ERR_CONFIG'
  readonly file: string
  readonly problems: readonly Problem[]

  constructor(file: string, problems: readonly Problem[], options?: ErrorOptions) {
    const ordered = problems.toSorted((a, b) => a.line - b.line || a.column - b.column)
    super(ordered.map(problem => format(file, problem)).join('\n'), options)
    this.name = 'ConfigError'
    this.file = file
    this.problems = ordered
  }
}

function format(file: string, { line, column, path, message }: Problem): string {
  return `${file}:${line}:${column}: ${path ? `${path}: ` : ''}${message}`
}
