/**
 * The one spelling of a repository, `<upstream>/<path>` without `.git`, from what a person or program wrote.
 *
 * Grants, records and locks are found by this name. If two spellings of one repository gave two names, the second would
 * be a way around a lock; if one spelling could mean two repositories, a grant for the first would open the second. So
 * nothing is repaired: a path is either plain or it names nothing.
 */

const PATH_CHARACTERS_MAX = 512
const SEGMENT_CHARACTERS_MAX = 128
/** GitLab nests groups twenty deep. */
const SEGMENTS_MAX = 24

// ASCII alone: other letters have several spellings (NFC and NFD, wide forms) that file systems take for one name.
// A first `-` would be an option to a program, `~` a home directory, `.` a hidden folder, `..` or `.git` itself;
// a final `.` or blank is dropped by some file systems.
const SEGMENT = /^[A-Za-z0-9_+@](?:[A-Za-z0-9_.+@~ -]*[A-Za-z0-9_+@~-])?$/

/**
 * `path` is already decoded and may have one leading `/` and one trailing `.git`. Case is kept.
 *
 * @returns undefined when it is not one plain spelling of an upstream and a path below it
 */
export function repositoryName(path: string): string | undefined {
  if (path.length > PATH_CHARACTERS_MAX) return undefined
  const segments = path
    .replace(/^\//, '')
    .replace(/\.git$/, '')
    .split('/')
  if (segments.length < 2 || segments.length > SEGMENTS_MAX) return undefined
  for (const segment of segments) {
    if (segment.length > SEGMENT_CHARACTERS_MAX || !SEGMENT.test(segment)) return undefined
    // `app.git.git`, `app.GIT`, `app.git/sub`: hosts differ in what they find there.
    if (/\.git$/i.test(segment) || segment.includes('..')) return undefined
  }
  return segments.join('/')
}
