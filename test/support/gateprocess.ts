import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Settings } from '../../config/settings.ts'
import { PROXY_FLAGS } from '../../deploy/vm.ts'
import { type Program, startProgram, until } from './program.ts'
import type { Stand } from './stand.ts'

/** A proxy of a stand that is a process of its own. */
export interface GateProcess {
  readonly program: Program
  readonly urls: Readonly<Record<string, string>>
  /** Everything it logged. */
  log(): string
  /** Bytes of memory it holds now. */
  memory(): Promise<number>
}

/** Starts a proxy as a process of its own; the name it is given in `change` decides whose operations it recovers. */
export async function startGateProcess(stand: Stand, change: Partial<Settings> = {}): Promise<GateProcess> {
  const settings: Settings = { ...stand.settings, name: 'process', ...change }
  await mkdir(join(settings.state, settings.name), { recursive: true })
  let log = ''
  const file = new URL('./gate-process.ts', import.meta.url).pathname
  const program = await startProgram(process.execPath, [...PROXY_FLAGS, file, JSON.stringify(settings, marked)], {
    onOutput: text => {
      log += text
    },
  })
  let over: number | string | undefined
  program.ended.then(how => {
    over = how
  })
  const urls = await until(() => {
    if (over !== undefined) throw new Error(`the proxy ended with ${over}: ${log}`)
    return /^urls (.*)$/m.exec(log)?.[1]
  }, 'the proxy to be ready')
  return {
    program,
    urls: JSON.parse(urls) as Record<string, string>,
    log: () => log,
    memory: async () => {
      const [, kilobytes] = /VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${program.pid}/status`, 'utf8')) ?? []
      return Number(kilobytes) * 1024
    },
  }
}

/** What JSON has no word for. */
function marked(this: { readonly [key: string]: unknown }, key: string, value: unknown): unknown {
  const before = this[key]
  if (before instanceof URL) return { url$: before.href }
  if (before instanceof Map) return { map$: [...before] }
  return value
}
