import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseCommand, parseGitProtocol } from '../../../proxy/ssh/command.ts'

const WORDS = new Set(['whoami', 'status', 'request'])
const parse = (line: string) => parseCommand(line, WORDS)

/** git's sq_quote (quote.c): what stock git sends. */
const sqQuote = (text: string) => `'${text.replace(/['!]/g, "'\\$&'")}'`

describe('git commands', () => {
  test.each([
    ["git-upload-pack '/acme/app.git'", 'upload-pack', '/acme/app.git'],
    ["git-receive-pack 'acme/app'", 'receive-pack', 'acme/app'],
    ["git-upload-archive '/acme/app.git'", 'upload-archive', '/acme/app.git'],
    ["git upload-pack '/acme/app.git'", 'upload-pack', '/acme/app.git'],
    ['git-upload-pack acme/app.git', 'upload-pack', 'acme/app.git'],
    ['git-upload-pack "acme/app.git"', 'upload-pack', 'acme/app.git'],
    ["git-upload-pack 'acme/it'\\''s.git'", 'upload-pack', "acme/it's.git"],
    ["git-upload-pack 'acme/wow'\\!'.git'", 'upload-pack', 'acme/wow!.git'],
  ])('%s', (line, service, path) => {
    expect(parse(line)).toEqual({ kind: 'git', service, path })
  })

  test('whatever path stock git quotes comes out as it went in, or is refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), path => {
        const command = parse(`git-upload-pack ${sqQuote(path)}`)
        if (command.kind === 'git') expect(command.path).toBe(path)
        else expect(path === '' || /^-|^\/?~|\p{Cc}/u.test(path)).toBe(true)
      }),
    )
  })

  test('no line at all makes the parser throw, or a git command with an option, a control character or no path', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 80 }),
        fc.constantFrom('git-upload-pack ', 'git ', ''),
        (text, start) => {
          const command = parse(start + text)
          if (command.kind === 'git') expect(command.path).toMatch(/^[^-\p{Cc}][^\p{Cc}]*$/u)
        },
      ),
    )
  })
})

// Each of these was, somewhere, a way to another program, another repository or a shell.
describe('refused with a sentence', () => {
  test.each([
    ["git-upload-pack '/acme/app.git' '/acme/other.git'", 'one repository path'],
    ['git-upload-pack', 'one repository path'],
    ["git-upload-pack ''", 'one repository path'],
    ["git-upload-pack --upload-pack='touch /tmp/x' acme/app", 'no options'],
    ["git-upload-pack --strict '/acme/app.git'", 'no options'],
    ["git-receive-pack '-oProxyCommand=x'", 'no options'],
    ["git-upload-pack '~root/app.git'", 'no home directories'],
    ["git-upload-pack '/~root/app.git'", 'no home directories'],
    ["git-upload-pack 'acme/app\n.git'", 'control characters'],
    ["git-upload-pack 'acme/app.git'\nid", 'shell'],
    ["git-upload-pack 'acme/app.git'; id", 'shell'],
    ["git-upload-pack 'acme/app.git' && id", 'shell'],
    ["git-upload-pack 'acme/app.git' | id", 'shell'],
    ['git-upload-pack $(id)', 'shell'],
    ['git-upload-pack `id`', 'shell'],
    ['git-upload-pack "$(id)"', 'shell'],
    ['git-upload-pack acme/*', 'shell'],
    ["git-upload-pack 'acme/app.git", 'not closed'],
    ['git-upload-pack acme\\', 'backslash'],
    ["/usr/bin/git-upload-pack 'acme/app.git'", 'gate for Git'],
    ["git-shell -c 'git-upload-pack x'", 'gate for Git'],
    ["git --exec-path=/tmp upload-pack 'acme/app.git'", 'gate for Git'],
    ['git constructor x', 'gate for Git'],
    ['constructor', 'gate for Git'],
    ['scp -t /tmp', 'gate for Git'],
    ['scp -f acme/app', 'gate for Git'],
    ['sftp', 'gate for Git'],
    ['rsync --server . /', 'gate for Git'],
    ['bash -i', 'gate for Git'],
    ['git-lfs-authenticate acme/app.git upload', 'gate for Git'],
    ['', 'gate for Git'],
    [`git-upload-pack '${'a'.repeat(5000)}'`, 'too long'],
    [`whoami ${'a '.repeat(100)}`, 'too many words'],
  ])('%j', (line, sentence) => {
    const command = parse(line)
    expect(command).toMatchObject({ kind: 'refused' })
    if (command.kind === 'refused') expect(command.reason).toContain(sentence)
  })

  test('the sentence names the commands that there are', () => {
    expect(parse('ls')).toEqual({
      kind: 'refused',
      reason:
        'this is a gate for Git: git clone, fetch, push and archive work here, and the commands request, status, whoami; nothing else does',
    })
  })
})

test('our own words take arguments, quoted or not', () => {
  expect(parse('whoami')).toEqual({ kind: 'word', name: 'whoami', args: [] })
  expect(parse(`request acme/app --push --for 2h --reason "fix \\"it\\"" 'PAY-231'`)).toEqual({
    kind: 'word',
    name: 'request',
    args: ['acme/app', '--push', '--for', '2h', '--reason', 'fix "it"', 'PAY-231'],
  })
})

// ssh hands over the words it was given with blanks between, and the quotes of the person's own shell are gone.
test.each([
  ['request acme/app --ref release/*', ['acme/app', '--ref', 'release/*']],
  ["request acme/app --reason don't (PAY-231)!", ['acme/app', '--reason', "don't", '(PAY-231)!']],
  ['request acme/app --reason $(reboot);`x`', ['acme/app', '--reason', '$(reboot);`x`']],
  ['  status r-1', ['r-1']],
])('nothing behind a word of ours asks for a shell: %s', (line, args) => {
  expect(parse(line)).toMatchObject({ kind: 'word', args })
})

test.each(['whoami;reboot', 'whoami&', 'status\nreboot', 'request\0', 'request x\ny', '$(request)', 'Request x'])(
  '%j is no word of ours',
  line => {
    expect(parse(line)).toMatchObject({ kind: 'refused' })
  },
)

test.each([
  ['version=2', 2],
  ['version=1', 1],
  ['version=0', 0],
  ['version=1:version=2', 2],
  ['version=2:version=1', 2],
  ['version=2:foo=bar', 2],
  ['foo:version=1:', 1],
  ['version=3', 0],
  ['version=22', 0],
  ['VERSION=2', 0],
  [' version=2', 0],
  ['version=2\n', 0],
  ['version=2\0', 0],
  ['', 0],
  [`${'x:'.repeat(200)}version=2`, 0],
  [undefined, 0],
] as const)('GIT_PROTOCOL %j is version %d', (value, version) => {
  expect(parseGitProtocol(value)).toBe(version)
})
