import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Path } from './path.ts'

/** Secrets and keys are small; a path that leads to something large is a slip. */
const FILE_BYTES_MAX = 64 << 10
const VARIABLE = /\$(\$)?\{([^}]*)\}/g
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/** A document with `${NAME}` and `{ file: PATH }` filled in. */
export interface Filled {
  readonly value: unknown
  /** Paths whose value came from elsewhere, and from where: `${NAME}` or `the file PATH`. What came so is never shown. */
  readonly origins: ReadonlyMap<string, string>
  readonly problems: readonly { readonly path: Path; readonly message: string }[]
}

/** The key by which `origins` knows a path. */
export function originKey(path: Path): string {
  return JSON.stringify(path.map(String))
}

/**
 * Fills in, in every text, `${NAME}` from the environment (`$${NAME}` stays as `${NAME}`), and replaces every mapping that
 * is just `{ file: PATH }` by that file's text without its last newline. Paths are relative to `folder`.
 */
export function fillIn(value: unknown, env: NodeJS.ProcessEnv, folder: string): Filled {
  const origins = new Map<string, string>()
  const problems: { path: Path; message: string }[] = []

  const fill = (part: unknown, path: Path): unknown => {
    if (typeof part === 'string') return fillText(part, path)
    if (Array.isArray(part)) return part.map((item, index) => fill(item, [...path, index]))
    if (typeof part !== 'object' || part === null) return part
    const entries = Object.entries(part)
    const [only] = entries
    if (entries.length === 1 && only?.[0] === 'file' && typeof only[1] === 'string') return fillFile(only[1], path)
    return Object.fromEntries(entries.map(([key, item]) => [key, fill(item, [...path, key])]))
  }

  const fillText = (written: string, path: Path): string =>
    written.replaceAll(VARIABLE, (whole, escaped: string | undefined, name: string) => {
      if (escaped) return whole.slice(1)
      if (!VARIABLE_NAME.test(name)) {
        problems.push({ path, message: `\${${name}} names no environment variable; a literal one is written $\${…}` })
        return ''
      }
      origins.set(originKey(path), `\${${name}}`)
      const found = env[name]
      if (found === undefined || found === '') {
        problems.push({ path, message: `the environment variable ${name} is ${found === '' ? 'empty' : 'not set'}` })
      }
      return found ?? ''
    })

  const fillFile = (written: string, path: Path): string => {
    const file = resolve(folder, fillText(written, path))
    origins.set(originKey(path), `the file ${written}`)
    try {
      const text = readFileSync(file)
      if (text.length > FILE_BYTES_MAX)
        problems.push({ path, message: `${file} is larger than ${FILE_BYTES_MAX} bytes` })
      if (text.length === 0) problems.push({ path, message: `${file} is empty` })
      return text.toString('utf8').replace(/\r?\n$/, '')
    } catch (error) {
      problems.push({ path, message: `cannot read ${file}: ${reason(error)}` })
      return ''
    }
  }

  return { value: fill(value, []), origins, problems }
}

/** The system's word for why a file could not be read. */
export function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return REASONS[code] ?? (code || 'it could not be read')
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
  ENOTDIR: 'part of the path is not a folder',
}
