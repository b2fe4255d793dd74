import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { KINDS } from '../../audit/schema.ts'
import { drawbridge } from '../../cli/drawbridge.ts'
import { gitAccess } from '../../cli/git-access.ts'
import { loadSettings } from '../../config/load.ts'
import { settingsTable } from '../../config/reference.ts'
import { welcome } from '../../deploy/trial/welcome.ts'
import { ACTIONS } from '../../grant/grant.ts'
import { type RefusalCode, refusal } from '../../proxy/refusal.ts'
import { temporaryFolder } from '../support/program.ts'

// What the pages say is held against what is there.

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const read = (page: string) => readFileSync(join(ROOT, page), 'utf8')

const PAGES = [
  ...['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'patches/README.md'],
  ...readdirSync(join(ROOT, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
]

const PLANNED = /<!-- planned -->[\s\S]*?<!-- \/planned -->/g

describe.each(PAGES)('%s', page => {
  test('its links lead somewhere', () => {
    const astray = linksOf(read(page)).filter(link => !leadsSomewhere(page, link))
    expect(astray).toEqual([])
  })

  test('the commands and options it names exist', () => {
    expect(commandLines(read(page).replaceAll(PLANNED, '')).flatMap(wrongWith)).toEqual([])
  })

  test('what it calls planned does not exist yet', () => {
    const planned = (read(page).match(PLANNED) ?? []).map(part => commandLines(part))
    expect(planned.filter(lines => lines.length > 0 && lines.every(line => wrongWith(line).length === 0))).toEqual([])
  })

  test('every mark that opens also closes', () => {
    const text = read(page)
    expect(text.split('<!-- planned -->').length).toBe(text.split('<!-- /planned -->').length)
    expect((text.match(/^```/gm) ?? []).length % 2).toBe(0)
  })
})

describe('the README', () => {
  test('has the place where the figures go', () => {
    expect(read('README.md')).toMatch(/<!-- bench:begin -->\n[\s\S]+?\n<!-- bench:end -->/)
  })

  test('shows lines that npm start really prints', () => {
    const people = (['developer', 'approver', 'auditor'] as const).map((role, index) => ({
      principal: ['alice', 'bob', 'carol'][index]!,
      roles: [role],
      token: 'eyJ',
    }))
    const at = { http: 'http://127.0.0.1:8080', ssh: 'ssh://git@127.0.0.1:2222', admin: 'http://127.0.0.1:8081' }
    const printed = welcome({ ...at, people, repository: 'demo/hello' }, '/bin')
    const shown = fenced(read('README.md'), 'text')
      .flatMap(text => text.split('\n'))
      .filter(row => /^\$ (alice|bob|carol) /.test(row))
      .map(row => row.slice(2))
    expect(shown.length).toBeGreaterThan(1)
    for (const row of shown) expect(printed).toContain(row)
  })

  test('names scripts that are there', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: { [name: string]: string } }
    const named = PAGES.flatMap(page => [...read(page).matchAll(/npm run ([a-z]+)/g)].map(([, name]) => name!))
    expect(named.filter(name => !(name in scripts))).toEqual([])
  })
})

describe('docs/developer.md', () => {
  // Read off the sentences themselves, so that a new code has to be written down.
  const REFUSALS: { readonly [code in RefusalCode]: true } = {
    'no-grant': true,
    'not-here': true,
    spent: true,
    locked: true,
    barred: true,
    unconfirmed: true,
    'redis-unreachable': true,
    'ledger-unreachable': true,
    draining: true,
    'ref-refused': true,
    unproved: true,
    protocol: true,
    upstream: true,
    cut: true,
  }
  // These two stand for many sentences of their own.
  const codes = Object.keys(REFUSALS).filter(code => code !== 'protocol' && code !== 'ref-refused')

  test.each(codes)('says what to do about a refusal of the kind %s', code => {
    const { sentence } = refusal('op-1', code as RefusalCode, 'acme/api', 'receive-pack')
    const known = code === 'upstream' ? 'did not answer' : sentence
    expect(section('docs/developer.md', 'When you are refused')).toContain(known)
  })

  test('knows every action', () => {
    const table = section('docs/developer.md', 'What a grant says')
    expect(ACTIONS.filter(action => !table.includes(`\`${action}\``))).toEqual([])
  })
})

test('docs/security.md has every kind of record, and no other', () => {
  const rows = section('docs/security.md', 'The record').match(/^\| `.*?\|/gm) ?? []
  const named = rows.flatMap(row => [...row.matchAll(/`([a-z]+\.[a-z]+)`/g)].map(([, kind]) => kind))
  expect(named.sort()).toEqual([...KINDS].sort())
})

describe('docs/operator.md', () => {
  test.each(fenced(read('docs/operator.md'), 'yaml').map((text, index) => [index, text] as const))(
    'example %i of a settings file loads',
    (index, text) => {
      const folder = temporaryFolder('settings')
      const secret = join(folder, 'secret')
      writeFileSync(secret, 'hunter2!\n')
      const file = join(folder, `${index}.yaml`)
      writeFileSync(file, text.replaceAll(/\/run\/secrets\/[a-z0-9]+/g, secret))
      expect(loadSettings(file, {}).upstreams.size).toBeGreaterThan(0)
    },
  )

  test('the settings that pages name are settings', () => {
    const table = settingsTable()
    const named = PAGES.flatMap(page =>
      [...read(page).matchAll(/`((?:listen|limits|ledger|ca|ssh)\.[a-z_]+)(?:: [a-z]+)?`/g)].map(([, name]) => name!),
    )
    // The ledger's own records are called alike.
    const settings = named.filter(name => !(KINDS as readonly string[]).includes(name))
    expect(settings.length).toBeGreaterThan(3)
    expect(settings.filter(name => !table.includes(`\`${name}\``))).toEqual([])
  })
})

describe('examples that are marked to be run', () => {
  const examples = PAGES.flatMap(page =>
    [...read(page).matchAll(/<!-- run -->\n+```sh\n([\s\S]*?)```/g)].map(([, text]) => [page, text!] as const),
  )

  test('there are some', () => {
    expect(examples.length).toBeGreaterThan(0)
  })

  test.each(examples)('%s: %s', (_, text) => {
    const script = text.replaceAll('npx drawbridge', `'${process.execPath}' cli/drawbridge.ts`)
    const { status, stderr } = spawnSync('sh', ['-euc', script], { cwd: ROOT, encoding: 'utf8', timeout: 20_000 })
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' })
  })
})

/** The blocks of a page fenced as this language. */
function fenced(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, block]) => block!)
}

/** What stands under a heading, to the next of its level. */
function section(page: string, heading: string): string {
  const [, after] = read(page).split(`\n## ${heading}\n`)
  if (after === undefined) throw new Error(`${page} has no heading ${JSON.stringify(heading)}`)
  return after.split('\n## ')[0]!
}

function linksOf(text: string): string[] {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!)
}

function leadsSomewhere(page: string, link: string): boolean {
  if (/^https?:/.test(link)) return true
  const [path = '', anchor] = link.split('#')
  const target = path === '' ? join(ROOT, page) : join(ROOT, dirname(page), path)
  if (!existsSync(target)) return false
  return anchor === undefined || anchorsOf(readFileSync(target, 'utf8')).includes(anchor)
}

/** Headings as GitHub and GitLab make them into anchors. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  )
}

/** Every `drawbridge …` in code, as it would be typed; wrapped lines are one. */
function commandLines(text: string): string[] {
  const blocks = [...text.matchAll(/^```(?:sh|)\n([\s\S]*?)^```/gm)].flatMap(([, block]) =>
    block!.replaceAll(/\\\n\s*/g, ' ').split('\n'),
  )
  const indented = [...text.matchAll(/^ {4}(?=\S)(.*)$/gm)].map(([, row]) => row!)
  const spans = [...text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`]+)`/g)].map(([, span]) => span!)
  return [...blocks, ...indented, ...spans]
    .map(row =>
      row
        .replaceAll(/\s+/g, ' ')
        .replace(/^(?:\$ )?(?:npx )?/, '')
        .replace(/\s#\s.*$/, ''),
    )
    .filter(row => /^(?:drawbridge|git access) [a-z]/.test(row))
}

/** What is wrong with a command line: a command or option there is not. Empty when it could be typed. */
function wrongWith(commandLine: string): string[] {
  const [program, ...words] = commandLine.split(/\s+/)
  const isDrawbridge = program === 'drawbridge'
  const root = isDrawbridge ? drawbridge() : gitAccess()
  let command = root
  for (const word of isDrawbridge ? words : words.slice(1)) {
    // `grant issue|list`: the first stands for all of them.
    const next = command.commands.find(each => each.name() === word.split('|')[0])
    if (!next) break
    command = next
  }
  const named = words[isDrawbridge ? 0 : 1]
  if (command === root) return [`${commandLine}: there is no ${named}`]
  // serve reads its own options.
  if (command.name() === 'serve') return []
  if (command.commands.length > 0 && words.length > 1) return [`${commandLine}: ${command.name()} has no such command`]
  const options = new Set(command.options.flatMap(({ long, short }) => [long, short]))
  return words
    .filter(word => /^--?[a-z]/.test(word))
    .map(word => word.replace(/=.*/, ''))
    .filter(word => !options.has(word))
    .map(word => `${commandLine}: ${command.name()} has no ${word}`)
}
