// Names of refs: git-check-ref-format(1), then what a gate must refuse besides.

/** Bytes; git itself stops at the length of a pkt-line, file systems at 255 for each component. */
const REFNAME_BYTES_MAX = 1024

// git: control characters, DEL, blank, ~ ^ : ? * [ \ are nowhere in a name.
const FORBIDDEN = /[\x00-\x20\x7f~^:?*[\\]/
// Bidi overrides, zero widths and other format characters: a person would approve one name and see another pushed.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]/u

/**
 * Why `name` is no name for a ref, in words that can stand behind it (`ng <ref> <reason>`); undefined when it is one.
 *
 * Follows git-check-ref-format(1) for full names and is stricter: the name begins with `refs/`, is valid Unicode in one
 * spelling (NFC), has nothing invisible in it, and is at most `REFNAME_BYTES_MAX` bytes.
 */
export function checkRefname(name: string): string | undefined {
  if (!name.startsWith('refs/')) return 'a ref name begins with refs/'
  if (Buffer.byteLength(name) > REFNAME_BYTES_MAX) return `a ref name has at most ${REFNAME_BYTES_MAX} bytes`
  if (FORBIDDEN.test(name)) return 'a ref name has no blank, control character or any of ~^:?*[\\'
  if (name.includes('..')) return 'a ref name has no ..'
  if (name.includes('@{')) return 'a ref name has no @{'
  if (name.endsWith('.')) return 'a ref name does not end with a dot'
  for (const component of name.split('/')) {
    if (component === '') return 'a ref name has no empty component'
    if (component.startsWith('.')) return 'no component of a ref name begins with a dot'
    if (component.endsWith('.lock')) return 'no component of a ref name ends with .lock'
  }
  return checkOwnRules(name)
}

function checkOwnRules(name: string): string | undefined {
  // `git branch` and `git tag` refuse these: every later command line would read them as an option.
  if (/^refs\/[^/]+\/-/.test(name)) return 'a branch or tag does not begin with a dash'
  if (!name.isWellFormed() || INVISIBLE.test(name)) return 'a ref name is visible, valid UTF-8'
  // A host on a file system that folds spellings would take the two for one ref.
  if (name !== name.normalize('NFC')) return 'a ref name is spelt in Unicode normal form C'
  return undefined
}

/** The text of bytes that are UTF-8 through and through, undefined for all others. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes)
  } catch {
    return undefined
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * First components after `refs/` to which git or some host gives a meaning of its own: writing there does more than move
 * a branch (opens a review, rewrites history for readers, changes permissions).
 */
const SPECIAL_NAMESPACES: ReadonlySet<string> = new Set([
  'for', // Gerrit: opens a change
  'drafts',
  'changes',
  'meta', // Gerrit: permissions
  'users',
  'groups',
  'cache-automerge',
  'starred-changes',
  'sequences',
  'pull', // GitHub, Gitea: a pull request's head
  'pull-requests',
  'pullreqs',
  'merge-requests', // GitLab
  'keep-around',
  'environments',
  'pipelines',
  'tmp',
  'notes', // shown with commits
  'replace', // stands in for objects
  'original',
  'stash',
  'bisect',
  'worktree',
  'rewritten',
  'prefetch',
  'remotes',
  'internal',
  'namespaces',
])

export type Namespace = 'branch' | 'tag' | 'other'

/** What kind of ref a full name is: only `refs/heads/…` is a branch and only `refs/tags/…` a tag. */
export function namespaceOf(ref: string): Namespace {
  if (ref.startsWith('refs/heads/')) return 'branch'
  if (ref.startsWith('refs/tags/')) return 'tag'
  return 'other'
}

/** The special namespace `ref` lies in (`replace`, `for`, `pull`, …), undefined when it lies in none of them. */
export function specialNamespaceOf(ref: string): string | undefined {
  const first = /^refs\/([^/]+)/.exec(ref)?.[1]
  return first !== undefined && SPECIAL_NAMESPACES.has(first) ? first : undefined
}
