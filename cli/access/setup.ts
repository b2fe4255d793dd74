import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { asking, type Common, gate } from '../command.ts'
import { stateFolder } from '../kept.ts'
import { CommandError, data, EXIT, json, say } from '../say.ts'

/** One line of somebody's git configuration, or of their known_hosts. */
type Line =
  | { readonly kind: 'git'; readonly key: string; readonly value: string }
  | { readonly kind: 'known_hosts'; readonly text: string }

interface Places {
  readonly http?: string
  readonly ssh?: string
  readonly host_authorities: readonly string[]
}

/** `git access setup`: existing remotes go through the gate, and git finds its token; all of it can be undone. */
export function setupCommand(): Command {
  return asking('setup', 'send existing remotes through the gate: lines in ~/.gitconfig and ~/.ssh/known_hosts')
    .option('--ssh', 'remotes go through the gate by SSH instead of HTTPS')
    .option('--dry-run', 'only show what would change')
    .option('--undo', 'take back exactly what an earlier setup added')
    .action(async (options: Common & { ssh?: boolean; dryRun?: boolean; undo?: boolean }) => {
      const before = readAdded()
      const wanted = options.undo ? [] : await wantedLines(options)
      // What an earlier setup wrote and is wanted no more goes; what is there already stays as it is.
      const remove = before.filter(line => !wanted.some(other => same(line, other)))
      const add = wanted.filter(line => !isThere(line))
      if (options.json) json({ add, remove })
      else show(add, remove)
      if (add.length + remove.length === 0) return say(options.undo ? 'there is nothing to undo' : 'nothing to change')
      if (options.dryRun) return say('nothing was changed')
      // Remembered before it is done: an undo after a crash takes back what may not be there, and that is no harm.
      const kept = before.filter(line => !remove.includes(line))
      writeAdded([...before, ...add])
      for (const line of remove) takeOut(line)
      for (const line of add) putIn(line)
      writeAdded([...kept, ...add])
      say(options.undo ? 'undone' : 'done; git access setup --undo takes it back')
    })
}

async function wantedLines(options: Common & { ssh?: boolean }): Promise<Line[]> {
  const client = gate(options)
  const places = await client.call<Places>('GET', '/login')
  const { upstreams } = await client.call<{ upstreams: { name: string; url: string }[] }>('GET', '/upstreams')
  const base = options.ssh ? places.ssh : (places.http ?? places.ssh)
  if (base === undefined) {
    throw new CommandError(
      EXIT.failed,
      'the gate does not say where it serves git',
      'its operator sets public_http and public_ssh',
    )
  }
  const lines: Line[] = upstreams.flatMap(({ name, url }) =>
    spellings(url).map((from): Line => ({ kind: 'git', key: `url.${base}/${name}/.insteadOf`, value: from })),
  )
  if (places.http !== undefined) {
    const key = `credential.${new URL(places.http).origin}.helper`
    // Empty first: helpers of other hosts would keep a token that is good for minutes.
    lines.push({ kind: 'git', key, value: '' }, { kind: 'git', key, value: helper(places.http) })
  }
  if (places.ssh !== undefined) {
    const { hostname, port } = new URL(places.ssh)
    const host = port === '' || port === '22' ? hostname : `[${hostname}]:${port}`
    for (const key of places.host_authorities)
      lines.push({ kind: 'known_hosts', text: `@cert-authority ${host} ${key}` })
  }
  return lines
}

/** How remotes of one host are written: as it stands, and for SSH in the short form of scp as well. */
function spellings(url: string): string[] {
  const { protocol, username, hostname, port, pathname } = new URL(url)
  if (protocol !== 'ssh:') return [url]
  const plain = `ssh://${username || 'git'}@${hostname}${port && port !== '22' ? `:${port}` : ''}${pathname}`
  return port && port !== '22' ? [plain] : [plain, `${username || 'git'}@${hostname}:${pathname.slice(1)}`]
}

/** By this very program, so that it is found whatever PATH holds. */
function helper(http: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  const program = fileURLToPath(new URL('../git-credential-drawbridge.ts', import.meta.url))
  return `!${quoted(process.execPath)} ${quoted(program)} --for ${quoted(new URL(http).origin)}`
}

function show(add: readonly Line[], remove: readonly Line[]): void {
  const text = (line: Line) =>
    line.kind === 'git' ? `~/.gitconfig        ${line.key}=${line.value}` : `~/.ssh/known_hosts  ${line.text}`
  for (const line of remove) data(`- ${text(line)}`)
  for (const line of add) data(`+ ${text(line)}`)
}

const same = (one: Line, other: Line) => JSON.stringify(one) === JSON.stringify(other)

// --- where the lines are ----------------------------------------------------------------------------------------------

function isThere(line: Line): boolean {
  if (line.kind === 'known_hosts') return knownHosts().split('\n').includes(line.text)
  const found = git('config', '--global', '--null', '--get-all', line.key)
  return found.status === 0 && found.stdout.split('\0').slice(0, -1).includes(line.value)
}

function putIn(line: Line): void {
  if (line.kind === 'git') {
    const done = git('config', '--global', '--add', line.key, line.value)
    if (done.status !== 0) throw new CommandError(EXIT.failed, `git config: ${done.stderr.trim() || 'it failed'}`)
    return
  }
  const before = knownHosts()
  mkdirSync(join(home(), '.ssh'), { recursive: true, mode: 0o700 })
  appendFileSync(knownHostsFile(), `${before === '' || before.endsWith('\n') ? '' : '\n'}${line.text}\n`, {
    mode: 0o600,
  })
}

function takeOut(line: Line): void {
  if (line.kind === 'git') {
    git('config', '--global', '--fixed-value', '--unset-all', line.key, line.value)
    return
  }
  const lines = knownHosts().split('\n')
  const others = lines.filter(text => text !== line.text)
  if (others.length === lines.length) return
  const left = others.join('\n')
  if (left === '') rmSync(knownHostsFile(), { force: true })
  else writeFileSync(knownHostsFile(), left, { mode: 0o600 })
}

function git(...args: string[]) {
  const ran = spawnSync('git', args, { encoding: 'utf8' })
  if (ran.error) throw new CommandError(EXIT.failed, 'there is no git on this machine')
  return ran
}

const home = () => process.env.HOME || homedir()
const knownHostsFile = () => join(home(), '.ssh', 'known_hosts')
const knownHosts = () => (existsSync(knownHostsFile()) ? readFileSync(knownHostsFile(), 'utf8') : '')

// --- what was added ---------------------------------------------------------------------------------------------------

const addedFile = () => join(stateFolder(process.env), 'setup.json')

function readAdded(): Line[] {
  if (!existsSync(addedFile())) return []
  const added: unknown = JSON.parse(readFileSync(addedFile(), 'utf8'))
  return Array.isArray(added) ? (added as Line[]) : []
}

function writeAdded(lines: readonly Line[]): void {
  if (lines.length === 0) {
    rmSync(addedFile(), { force: true })
    return
  }
  mkdirSync(stateFolder(process.env), { recursive: true, mode: 0o700 })
  writeFileSync(addedFile(), `${JSON.stringify(lines, undefined, 2)}\n`, { mode: 0o600 })
}
