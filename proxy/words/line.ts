/** What stands behind a word: `acme/api --push --for 2 hours`. */
export interface Line {
  readonly words: readonly string[]
  readonly flags: ReadonlySet<string>
  readonly values: ReadonlyMap<string, string>
  /** What stands behind `--and`, where the word knows it. */
  readonly and?: Line
}

/**
 * Reads the arguments of a word. ssh joins what the person's shell had taken apart, so nobody's quotes arrive here:
 * `--reason "fix rounding"` is three words. What follows an option that takes a value is the value, up to the next option.
 *
 * @returns why it makes no sense, where it does not
 */
export function readLine(
  args: readonly string[],
  known: { readonly flags?: readonly string[]; readonly values?: readonly string[]; readonly and?: boolean },
): Line | string {
  const end = known.and ? args.indexOf('--and') : -1
  if (end >= 0) {
    const [line, and] = [readLine(args.slice(0, end), known), readLine(args.slice(end + 1), known)]
    if (typeof line === 'string') return line
    return typeof and === 'string' ? and : { ...line, and }
  }
  const words: string[] = []
  const flags = new Set<string>()
  const values = new Map<string, string>()
  let option: string | undefined
  for (const arg of args) {
    if (!arg.startsWith('--')) {
      if (option === undefined) words.push(arg)
      else values.set(option, [values.get(option), arg].filter(Boolean).join(' '))
      continue
    }
    const [name = '', ...more] = arg.slice(2).split('=')
    option = undefined
    if (known.flags?.includes(name) && more.length === 0) flags.add(name)
    else if (known.values?.includes(name)) {
      option = name
      if (more.length > 0) values.set(name, [values.get(name), more.join('=')].filter(Boolean).join(' '))
      else if (!values.has(name)) values.set(name, '')
    } else return `there is no --${name}${available(known)}`
  }
  const empty = [...values].find(([, value]) => value === '')
  return empty === undefined ? { words, flags, values } : `--${empty[0]} needs a value`
}

function available({ flags = [], values = [], and }: Parameters<typeof readLine>[1]): string {
  const names = [...flags, ...values, ...(and ? ['and'] : [])].map(name => `--${name}`)
  return names.length === 0 ? '' : `; there is ${names.join(', ')}`
}
