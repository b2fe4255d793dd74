/**
 * What a Git host documents that it sends, with the page that says so: the values are the page's, trimmed to the members that are
 * read and a few that are not. Where the page shows another state of the same event, the comment says what was changed.
 */
export interface Told {
  readonly source: string
  /** As the host's header names it. */
  readonly event: string
  readonly body: object
  readonly places?: Places
}

/** Where in the body the facts are by which messages belong together: `pull_request.merged_at`. */
export interface Places {
  readonly repository?: readonly string[]
  readonly commit?: string
  readonly at?: string
}

/** The same message of another repository, commit and time: pages do not tell one story from example to example. */
export function about({ places = {}, ...told }: Told, facts: Facts): Told {
  const { repository = [], commit, at } = places
  let one: Told = { ...told, places }
  for (const path of repository) one = changed(one, path, facts.repository)
  if (at !== undefined) one = changed(one, at, facts.at)
  // In the form that the page has: twelve digits, or the end of an address.
  if (commit !== undefined)
    one = changed(one, commit, (was: unknown) =>
      String(was).replace(/[0-9a-f]{12,40}$/, id => facts.commit.slice(0, id.length)),
    )
  return one
}

interface Facts {
  readonly repository: string
  readonly commit: string
  readonly at: string
}

/** The same message with something else in one place. @param value what stands there, or what to make of it */
export function changed(told: Told, path: string, value: unknown): Told {
  const body = JSON.parse(JSON.stringify(told.body)) as { [name: string]: unknown }
  const names = path.split('.')
  const last = names.slice(0, -1).reduce((part, name) => part[name] as { [name: string]: unknown }, body)
  const name = names.at(-1) ?? ''
  last[name] = typeof value === 'function' ? value(last[name]) : value
  return { ...told, body }
}
