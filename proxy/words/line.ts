/** What stands behind a word: `acme/api --push --for 2 hours`. */
export interface Line {
  readonly words: readonly string[]
  readonly flags: ReadonlySet<string>
  readonly values: ReadonlyMap<string, string>
}

/**
 * Reads the arguments of a word. ssh joins what the person's shell had taken apart, so nobody's quotes arrive here:
 * `--reason "fix rounding"` is three words. What follows an option that takes a value is the value, up to the next option.
 *
 * @returns why it makes no sense, where it does not
 */
export function readLine(
  args: readonly string[],
  known: { readonly flags?: readonly string[]; readonly values?: readonly string[] },
): Line | string {
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

function available({ flags = [], values = [] }: Parameters<typeof readLine>[1]): string {
  const names = [...flags, ...values].map(name => `--${name}`)
  return names.length === 0 ? '' : `; there is ${names.join(', ')}`
}
