import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import type { PolicySource } from '../config/policy/load.ts'
import { isPolicyFile } from '../config/policy/load.ts'
import type { PolicyRepository } from '../config/policyrepository.ts'

/** The gate's own copy of the repository its policy is kept in, and what stands in a commit of it. No working tree, no hooks. */
export interface PolicyCheckout {
  /** The commit the branch is at; where it is another than `known`, its files are here afterwards. */
  fetch(token: string, known: string | undefined): Promise<string>
  sources(commit: string): Promise<readonly PolicySource[]>
  /** The commit that was in force last, also before a restart. */
  inForce(): Promise<string | undefined>
  putInForce(commit: string): Promise<void>
}

const GIT_MILLISECONDS_MAX = 60_000
const OUTPUT_BYTES_MAX = 64 << 20
const FILES_MAX = 500
const FILE_BYTES_MAX = 1 << 20
const FETCHED = 'refs/policy/fetched'
const IN_FORCE = 'refs/policy/in-force'

export async function openPolicyCheckout(folder: string, source: PolicyRepository): Promise<PolicyCheckout> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { repository, ref, path, url, caFile } = source
  const remote = `${url}/${repository}.git`

  const git = async (args: readonly string[], more: { readonly token?: string } = {}): Promise<Buffer> =>
    await new Promise((resolve, reject) => {
      const options = {
        env: environment(folder, caFile, more.token),
        timeout: GIT_MILLISECONDS_MAX,
        maxBuffer: OUTPUT_BYTES_MAX,
        encoding: 'buffer',
      } as const
      execFile('git', ['--git-dir', folder, ...args], options, (error, stdout, stderr) => {
        if (error) reject(new Error(`git ${args[0]}: ${lastLines(stderr) || error.message}`, { cause: error }))
        else resolve(stdout)
      })
    })
  await git(['init', '--quiet', '--bare', '--template='])

  async function text(commit: string, name: string): Promise<string> {
    return (await git(['cat-file', 'blob', `${commit}:${name}`])).toString()
  }

  return {
    fetch: async (token, known) => {
      const listed = (await git(['ls-remote', '--refs', remote, ref], { token })).toString()
      const tip = listed.split('\n').find(line => line.endsWith(`\t${ref}`))
      if (tip === undefined) throw new Error(`${repository} has no ${ref}`)
      const [commit = ''] = tip.split('\t')
      if (commit === known) return commit
      await git(['fetch', '--quiet', '--depth=1', '--no-tags', '--force', remote, `${ref}:${FETCHED}`], { token })
      return (await git(['rev-parse', '--verify', `${FETCHED}^{commit}`])).toString().trim()
    },
    sources: async commit => {
      const listed = (
        await git(['ls-tree', '-z', '-l', commit, '--', ...(path === '' ? [] : [path, `${path}/`])])
      ).toString()
      const files = listed.split('\0').flatMap(entry => {
        const [, size = '', name = ''] = /^100(?:644|755) blob [0-9a-f]+ +(\d+)\t(.+)$/s.exec(entry) ?? []
        const isMeant = name !== '' && (name === path || isPolicyFile(name.split('/').at(-1) ?? ''))
        return isMeant ? [{ name, size: Number(size) }] : []
      })
      const large = files.find(({ size }) => size > FILE_BYTES_MAX)
      if (large || files.length > FILES_MAX) {
        throw new Error(large ? `${large.name} is larger than ${FILE_BYTES_MAX} bytes` : `more than ${FILES_MAX} files`)
      }
      const sources: PolicySource[] = []
      for (const { name } of files) sources.push({ file: `${repository}:${name}`, text: await text(commit, name) })
      return sources
    },
    inForce: async () => {
      const found = (await git(['for-each-ref', '--format=%(objectname)', IN_FORCE])).toString().trim()
      return found === '' ? undefined : found
    },
    putInForce: async commit => {
      await git(['update-ref', IN_FORCE, commit])
    },
  }
}

/** Nobody's configuration has a say, nobody is asked for a password, and the token is in no list of processes. */
function environment(folder: string, caFile: string | undefined, token: string | undefined): NodeJS.ProcessEnv {
  const settings: readonly (readonly [string, string])[] = [
    ['fetch.fsckObjects', 'true'],
    ['http.followRedirects', 'false'],
    ['gc.auto', '0'],
    ...(caFile === undefined ? [] : [['http.sslCAInfo', caFile] as const]),
    ...(token === undefined ? [] : [['http.extraHeader', `Authorization: Bearer ${token}`] as const]),
  ]
  return {
    PATH: process.env.PATH,
    HOME: folder,
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ALLOW_PROTOCOL: 'http:https',
    GIT_CONFIG_COUNT: String(settings.length),
    ...Object.fromEntries(
      settings.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
  }
}

const lastLines = (stderr: Buffer) => stderr.toString().trim().split('\n').slice(-3).join(' ').slice(0, 500)
