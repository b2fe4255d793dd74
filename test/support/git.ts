import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { temporaryFolder } from './program.ts'

/** How a git command ended, and what it showed. */
export interface GitResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface GitOptions {
  readonly cwd?: string
  /** Over the clean environment: `GIT_SSH_COMMAND`, `GIT_TRACE_PACKET`, … */
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string | Uint8Array
  /** Milliseconds after which it is killed; a git that waits for a password must not hang a test. */
  readonly timeout?: number
  readonly signal?: AbortSignal
}

const GIT_MILLISECONDS = 50_000

let home: string | undefined

/** An environment in which git does the same on every machine: no system or personal settings, no prompts, fixed author and dates. */
export function gitEnvironment(env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  home ??= temporaryFolder('home')
  return {
    PATH: process.env.PATH,
    HOME: home,
    LC_ALL: 'C',
    TZ: 'UTC',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_COUNT: '2',
    GIT_CONFIG_KEY_0: 'init.defaultBranch',
    GIT_CONFIG_VALUE_0: 'main',
    GIT_CONFIG_KEY_1: 'gc.auto',
    GIT_CONFIG_VALUE_1: '0',
    GIT_TERMINAL_PROMPT: '0',
    SSH_ASKPASS_REQUIRE: 'never',
    GIT_AUTHOR_NAME: 'Alice',
    GIT_AUTHOR_EMAIL: 'alice@example.org',
    GIT_AUTHOR_DATE: '2026-01-02T03:04:05Z',
    GIT_COMMITTER_NAME: 'Alice',
    GIT_COMMITTER_EMAIL: 'alice@example.org',
    GIT_COMMITTER_DATE: '2026-01-02T03:04:05Z',
    ...env,
  }
}

/** Runs git to its end, whatever the end is. */
export function git(args: readonly string[], options: GitOptions = {}): Promise<GitResult> {
  return new Promise((resolve, reject) => {
    const child = spawn('git', args, {
      cwd: options.cwd,
      env: gitEnvironment(options.env),
      timeout: options.timeout ?? GIT_MILLISECONDS,
      ...(options.signal ? { signal: options.signal } : {}),
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', chunk => stdout.push(chunk))
    child.stderr.on('data', chunk => stderr.push(chunk))
    child.on('error', error => (error.name === 'AbortError' ? undefined : reject(error)))
    child.on('close', (code, signal) => {
      const text = Buffer.concat(stderr).toString()
      resolve({
        status: code ?? 128,
        stdout: Buffer.concat(stdout).toString(),
        stderr: signal ? `${text}(git was ended by ${signal})` : text,
      })
    })
    // git may end without reading its input: that is its answer, not a fault here.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input)
  })
}

/** Runs git and gives its output without the last newline; rejects unless it succeeds. */
export async function gitOk(args: readonly string[], options: GitOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await git(args, options)
  if (status !== 0) throw new Error(`git ${args.join(' ')} ended with ${status}: ${stderr.trim()}`)
  return stdout.trimEnd()
}

export interface RepositoryOptions {
  /** How many commits `main` has; each adds one file and changes another. */
  readonly commits?: number
  /** Further branches, each one commit ahead of `main`. */
  readonly branches?: readonly string[]
  /** Annotated tags on `main`'s tip. */
  readonly tags?: readonly string[]
  /** Bytes of random, incompressible content in the last commit of `main`. */
  readonly bytes?: number
  readonly objectFormat?: 'sha1' | 'sha256'
  /** `git config` lines: `{ 'receive.advertisePushOptions': 'true' }`. */
  readonly config?: Readonly<Record<string, string>>
}

/** Makes a bare repository at `path` (`….git`) by fast-import, with push over HTTP and partial clone allowed. */
export async function makeRepository(path: string, options: RepositoryOptions = {}): Promise<string> {
  mkdirSync(path, { recursive: true })
  await gitOk(['init', '-q', '--bare', `--object-format=${options.objectFormat ?? 'sha1'}`, path])
  const config = {
    'http.receivepack': 'true',
    'uploadpack.allowFilter': 'true',
    'uploadpack.allowAnySHA1InWant': 'true',
    'receive.advertisePushOptions': 'true',
    'core.fsync': 'none',
    ...options.config,
  }
  const lines = Object.entries(config).map(([key, value]) => configLine(key, value))
  writeFileSync(join(path, 'config'), lines.join(''), { flag: 'a' })
  const commits = options.commits ?? 3
  const timeout = millisecondsFor(options.bytes ?? 0)
  if (commits > 0)
    await gitOk(['fast-import', '--quiet'], { cwd: path, input: history({ ...options, commits }), timeout })
  return path
}

/** What git may take for so many bytes. A gigabyte takes a busy machine minutes: 2 MB a second, at least. */
export function millisecondsFor(bytes: number): number {
  return GIT_MILLISECONDS + Math.ceil(bytes / 2_000)
}

function configLine(key: string, value: string): string {
  const dot = key.lastIndexOf('.')
  const [section, ...rest] = key.slice(0, dot).split('.')
  const subsection = rest.length ? ` "${rest.join('.')}"` : ''
  return `[${section}${subsection}]\n\t${key.slice(dot + 1)} = ${value}\n`
}

// Second counts from 2026-01-01T00:00:00Z, so that every run makes the same object ids.
const EPOCH_SECONDS = 1_767_225_600

/** The stream git fast-import reads (git-fast-import(1), "Input Format"). */
function history(options: RepositoryOptions & { commits: number }): Buffer {
  const parts: (string | Buffer)[] = []
  const data = (content: string | Buffer) => {
    parts.push(`data ${Buffer.byteLength(content)}\n`, content, '\n')
  }
  const commit = (ref: string, mark: number, from: number | undefined, files: Record<string, string | Buffer>) => {
    const who = `Alice <alice@example.org> ${EPOCH_SECONDS + mark * 60} +0000`
    parts.push(`commit ${ref}\nmark :${mark}\nauthor ${who}\ncommitter ${who}\n`)
    data(`commit ${mark}\n`)
    if (from !== undefined) parts.push(`from :${from}\n`)
    for (const [name, content] of Object.entries(files)) {
      parts.push(`M 100644 inline ${name}\n`)
      data(content)
    }
    parts.push('\n')
  }
  for (let n = 1; n <= options.commits; n++) {
    const files: Record<string, string | Buffer> = { README: `hello ${n}\n`, [`file-${n}`]: `content of file ${n}\n` }
    if (n === options.commits && options.bytes) files['large.bin'] = noise(options.bytes)
    commit('refs/heads/main', n, n > 1 ? n - 1 : undefined, files)
  }
  for (const [i, branch] of (options.branches ?? []).entries()) {
    commit(`refs/heads/${branch}`, options.commits + 1 + i, options.commits, { [`on-${i}`]: `${branch}\n` })
  }
  for (const tag of options.tags ?? []) {
    parts.push(`tag ${tag}\nfrom :${options.commits}\ntagger Alice <alice@example.org> ${EPOCH_SECONDS} +0000\n`)
    data(`${tag}\n`)
  }
  return Buffer.concat(parts.map(part => Buffer.from(part)))
}

/** Bytes that zlib cannot shrink and that are the same in every run (xorshift32). */
export function noise(length: number, seed = 0x9e3779b9): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4))
  let x = seed | 0 || 1
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    words[i] = x
  }
  return Buffer.from(words.buffer, 0, length)
}

/** A clone to work in, made on the spot; `origin` is `url`. */
export async function cloneRepository(url: string, options: GitOptions = {}): Promise<string> {
  const folder = join(temporaryFolder('clone'), 'work')
  await gitOk(['clone', '-q', url, folder], options)
  return folder
}

let written = 0

/** Adds a commit that changes one file, and gives its id. */
export async function commitFile(
  cwd: string,
  name = 'file',
  content: string | Buffer = `change ${++written}\n`,
): Promise<string> {
  mkdirSync(dirname(join(cwd, name)), { recursive: true })
  writeFileSync(join(cwd, name), content)
  await gitOk(['add', '--', name], { cwd, timeout: millisecondsFor(content.length) })
  await gitOk(['commit', '-q', '-m', `change ${name}`], { cwd })
  return gitOk(['rev-parse', 'HEAD'], { cwd })
}

/** Every ref of a repository and what it stands at. */
export async function refsOf(path: string): Promise<Record<string, string>> {
  const listed = await gitOk(['for-each-ref', '--format=%(refname) %(objectname)'], { cwd: path })
  return Object.fromEntries(
    listed
      .split('\n')
      .filter(Boolean)
      .map(line => line.split(' ') as [string, string]),
  )
}

/** A change of a ref, in one word. */
export const change = (ref: string, old: string, now: string): string => `${ref} ${old} ${now}`

/** Every change of the branches `FOLDER/…` of a bare repository, by its own log of each (`core.logAllRefUpdates`). */
export function changesBelow(bare: string, folder: string): string[] {
  const logs = join(bare, 'logs', 'refs', 'heads', folder)
  if (!existsSync(logs)) return []
  return readdirSync(logs).flatMap(name =>
    readFileSync(join(logs, name), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map(row => row.split(' '))
      .map(([old, now]) => change(`refs/heads/${folder}/${name}`, old!, now!)),
  )
}
