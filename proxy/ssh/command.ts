import type { GitService } from '../upstream/upstream.ts'

/**
 * The command line of an SSH exec request (RFC 4254, section 6.5), which stock servers hand to a shell. Here there is no
 * shell behind it: the line is split into words and either is one of the few things that exist, or is refused with a
 * sentence that says what does.
 */
export type Command =
  | { readonly kind: 'git'; readonly service: GitService; readonly path: string }
  | { readonly kind: 'word'; readonly name: string; readonly args: readonly string[] }
  | { readonly kind: 'refused'; readonly reason: string }

const COMMAND_CHARACTERS_MAX = 4096
const WORDS_MAX = 64

const SERVICES: Readonly<Record<string, GitService>> = {
  'git-upload-pack': 'upload-pack',
  'git-receive-pack': 'receive-pack',
  'git-upload-archive': 'upload-archive',
}

/**
 * Reads a command line. `words` are the names besides git's that mean something here (`whoami`, `status`, …).
 *
 * git sends `git-upload-pack 'path'`, quoted as its sq_quote does: single quotes, with `'\''` and `'\!'` for the two
 * characters that cannot stand in them. Other clients send `git upload-pack`, or a bare path.
 */
export function parseCommand(commandLine: string, words: ReadonlySet<string>): Command {
  if (commandLine.length > COMMAND_CHARACTERS_MAX) return refused('the command line is too long')
  const [, own] = /^\s*([a-z]+)(?=\s|$)/.exec(commandLine) ?? []
  const isOwn = own !== undefined && words.has(own)
  const split = splitWords(commandLine, isOwn)
  if (typeof split === 'string') return refused(split)
  const [first = '', ...rest] = split
  if (first === 'git' && rest[0] !== undefined) return gitCommand(`git-${rest[0]}`, rest.slice(1), words)
  if (isOwn) return { kind: 'word', name: first, args: rest }
  return gitCommand(first, rest, words)
}

function gitCommand(name: string, args: readonly string[], words: ReadonlySet<string>): Command {
  const service = Object.hasOwn(SERVICES, name) ? SERVICES[name] : undefined
  if (service === undefined) return refused(whatWorks(words))
  const [path] = args
  // `--upload-pack=…`, `--strict` and whatever else a program behind this name might take for an option.
  if (path?.startsWith('-')) return refused(`${name} takes no options here`)
  if (path === undefined || path === '' || args.length > 1) return refused(`${name} takes one repository path`)
  if (/^\/?~/.test(path)) return refused('there are no home directories here: write the path as UPSTREAM/PATH')
  if (/\p{Cc}/u.test(path)) return refused('the repository path holds control characters')
  return { kind: 'git', service, path }
}

/** What to answer whoever asks for a shell, a file transfer or another program. */
export function whatWorks(words: ReadonlySet<string>): string {
  const names = [...words].sort()
  const others = names.length === 0 ? '' : `, and the commands ${names.join(', ')}`
  return `this is a gate for Git: git clone, fetch, push and archive work here${others}; nothing else does`
}

function refused(reason: string): Command {
  return { kind: 'refused', reason }
}

// What a shell would act upon when it stands outside quotes. Nobody's path needs it; refusing it tells an attacker's
// `a; rm -rf` from a path before anything else looks at it.
const SHELL_MEANING = /[;&|<>()$`*?[\]{}#!\r\n\0]/
const LINE_ENDS = /[\r\n\0]/

/**
 * The words of a line as a POSIX shell splits it, without anything a shell would act upon; or why there are none.
 *
 * @param literal take such characters for themselves: behind a word of our own there is `--ref release/*` and
 *   `--reason "don't (PAY-231)"`, which ssh hands over without the person's quotes
 */
function splitWords(text: string, literal: boolean): string[] | string {
  const found: string[] = []
  let word: string | undefined
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!
    if (char === ' ' || char === '\t') {
      if (word !== undefined) found.push(word)
      word = undefined
      if (found.length > WORDS_MAX) return 'the command line has too many words'
      continue
    }
    word ??= ''
    if (char === "'" || char === '"') {
      const end = closingQuote(text, at)
      if (end < 0 && literal) {
        word += char
        continue
      }
      if (end < 0) return 'a quote in the command line is not closed'
      const quoted = text.slice(at + 1, end)
      if (!literal && char === '"' && /[$`]/.test(quoted))
        return 'the command line asks for a shell, and there is none here'
      word += char === '"' ? quoted.replace(/\\(["\\])/g, '$1') : quoted
      at = end
    } else if (char === '\\') {
      const next = text[++at]
      if (next === undefined || /[\r\n\0]/.test(next)) return 'the command line ends in a backslash'
      word += next
    } else if (literal ? LINE_ENDS.test(char) : SHELL_MEANING.test(char)) {
      return 'the command line asks for a shell, and there is none here'
    } else {
      word += char
    }
  }
  if (word !== undefined) found.push(word)
  return found
}

function closingQuote(text: string, open: number): number {
  const quote = text[open]!
  if (quote === "'") return text.indexOf(quote, open + 1)
  for (let at = open + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === quote) return at
  }
  return -1
}

const GIT_PROTOCOL_CHARACTERS_MAX = 256

/**
 * The protocol version asked for by GIT_PROTOCOL (gitprotocol-v2, "SSH and File Transport"): `version=2`, or a list
 * with colons in which the highest version known counts. Anything else is version 0, as for stock git.
 */
export function parseGitProtocol(value: string | undefined): 0 | 1 | 2 {
  if (value === undefined || value.length > GIT_PROTOCOL_CHARACTERS_MAX) return 0
  const items = value.split(':')
  if (items.includes('version=2')) return 2
  return items.includes('version=1') ? 1 : 0
}
