export type Cell = string | number

/** One question of an auditor, with its answer. */
export interface Section {
  readonly title: string
  /** Controls this is evidence for, as their catalogues name them. */
  readonly evidence: string
  /** How to read it. */
  readonly note: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly Cell[])[]
  /** In one line, what there is beyond the rows. */
  readonly more: string | undefined
}

/** A report as data; `markdown.ts` and `html.ts` show it. */
export interface Report {
  readonly title: string
  readonly since: string
  readonly until: string
  readonly facts: readonly (readonly [name: string, value: string])[]
  readonly days: readonly { readonly day: string; readonly done: number; readonly refused: number }[]
  readonly sections: readonly Section[]
}
