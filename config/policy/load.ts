import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { z } from 'zod'
import { type Path, written } from '../path.ts'
import type { Policy, Rule } from '../policy.ts'
import { ConfigError } from '../problem.ts'
import { readYaml, type Yaml } from '../yaml.ts'
import { compileRule, type Names } from './compile.ts'
import { compileClasses, compileDelegations, compilePeople, compileRotas, compileStandings } from './directory.ts'
import { lookup } from './lookup.ts'
import { naming } from './naming.ts'
import { type Fault, faults, PolicyError, type PolicyProblem } from './problems.ts'
import { type PolicyDocument, policySchema, RULES_MAX } from './schema.ts'

/** One file of a policy: where it came from, for messages, and what it says. */
export interface PolicySource {
  readonly file: string
  readonly text: string
}

const FILES_MAX = 500

interface Part {
  readonly file: string
  readonly document: PolicyDocument
  /** The line of each rule. */
  readonly lines: readonly number[]
  readonly yaml: Yaml
}

/**
 * A policy out of its files, in the order given; lists follow each other, names must not clash.
 * @throws PolicyError with everything that is wrong, in all files, at once
 */
export function loadPolicy(sources: readonly PolicySource[]): Policy {
  const problems: PolicyProblem[] = []
  if (sources.length === 0) throw new PolicyError([at1('policy', 'no policy file; a policy is at least "version: 1"')])
  if (sources.length > FILES_MAX) throw new PolicyError([at1('policy', `more than ${FILES_MAX} files`)])
  const parts = sources.flatMap(source => readPart(source, problems))
  // What one file says is judged against what all say: with one of them unread, every such judgement would be a guess.
  if (parts.length < sources.length) throw new PolicyError(problems)
  const policy = compile(parts, problems)
  if (problems.length > 0) throw new PolicyError(inOrder(problems, sources))
  return policy
}

/**
 * The policy at a path: a file, or a folder of `.yaml` and `.yml` files (not `*.test.yaml`) in the order of their names.
 * @throws PolicyError
 */
export function readPolicy(path: string): Policy {
  return loadPolicy(policySources(path))
}

/** Of the files of a folder, by its name. */
export const isPolicyFile = (name: string): boolean =>
  /\.ya?ml$/.test(name) && !/\.test\.ya?ml$/.test(name) && !name.startsWith('.')

/** @throws PolicyError where the path cannot be read */
export function policySources(path: string): readonly PolicySource[] {
  try {
    if (!statSync(path).isDirectory()) return [{ file: path, text: readFileSync(path, 'utf8') }]
    const files = readdirSync(path).filter(isPolicyFile)
    if (files.length === 0) throw new PolicyError([at1(path, 'no .yaml file in this folder')])
    return files.sort().map(name => ({ file: join(path, name), text: readFileSync(join(path, name), 'utf8') }))
  } catch (error) {
    if (error instanceof PolicyError) throw error
    throw new PolicyError([at1(path, `cannot be read: ${error instanceof Error ? error.message : String(error)}`)], {
      cause: error,
    })
  }
}

const at1 = (file: string, message: string): PolicyProblem => ({ file, line: 1, column: 1, path: '', message })

function inOrder(problems: readonly PolicyProblem[], sources: readonly PolicySource[]): PolicyProblem[] {
  const position = new Map(sources.map(({ file }, index) => [file, index]))
  return problems.toSorted(
    (a, b) => position.get(a.file)! - position.get(b.file)! || a.line - b.line || a.column - b.column,
  )
}

function readPart({ file, text }: PolicySource, problems: PolicyProblem[]): Part[] {
  let yaml: Yaml
  try {
    yaml = readYaml(text, file)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    problems.push(...error.problems.map(problem => ({ file, ...problem })))
    return []
  }
  const parsed = policySchema.safeParse(yaml.value ?? {})
  if (parsed.success) return [part(file, yaml, parsed.data)]
  const found = parsed.error.issues.flatMap(issue => faults(issue, yaml.value))
  problems.push(...found.map(fault => place(file, yaml, fault)))
  const rest = policySchema.safeParse(withStandIns(yaml.value, parsed.error.issues))
  return rest.success ? [part(file, yaml, rest.data)] : []
}

function part(file: string, yaml: Yaml, document: PolicyDocument): Part {
  return { file, document, yaml, lines: yaml.lines('requests') }
}

const STAND_INS: Readonly<Record<string, (name: string) => unknown>> = {
  requests: () => ({ trigger: 'push', forbid: 'stand-in' }),
  repositories: () => ({ match: '**' }),
  delegates: () => ({ from: 'a', to: 'b', until: '9999-01-01' }),
  people: name => name,
  groups: name => `member-of-${name}`,
  services: name => ({ owner: `owner-of-${name}` }),
  classes: () => ({}),
  on_call: () => ({ shifts: [] }),
  defaults: () => ({}),
}

/**
 * The document with a harmless entry for each faulty one, only so that the rest can be judged too and everything wrong is
 * said at once. The policy made of it is never given out.
 */
function withStandIns(value: unknown, issues: readonly z.core.$ZodIssue[]): unknown {
  const document = structuredClone(value)
  const unknown = issues.flatMap(issue =>
    issue.code === 'unrecognized_keys' && issue.path.length === 0 ? issue.keys.map(key => [key]) : [],
  )
  for (const path of [...unknown, ...issues.map(issue => issue.path)]) {
    const [section, entry] = path
    if (section === undefined) continue
    const table = isTable(document) ? document[String(section)] : undefined
    const standIn = STAND_INS[String(section)]
    if (isTable(table) && standIn && entry !== undefined) table[String(entry)] = standIn(String(entry))
    else if (isTable(document)) delete document[String(section)]
  }
  return isTable(document) ? { ...document, version: 1 } : { version: 1 }
}

const isTable = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

function place(file: string, yaml: Yaml, { path, key, message }: Fault): PolicyProblem {
  return { file, ...(key ? yaml.atKey(path) : yaml.at(path)), path: written(path), message }
}

function compile(parts: readonly Part[], problems: PolicyProblem[]): Policy {
  const document = merge(parts, problems)
  // A path of the merged document leads back to the file that said it: list entries by their position, names by their key.
  const complain = (fault: Fault) => {
    const { part, path } = origin(parts, fault.path)
    problems.push(place(part.file, part.yaml, { ...fault, path }))
  }
  const people = compilePeople(document, complain)
  const classes = compileClasses(document)
  const names: Names = {
    people,
    groups: new Set(Object.keys(document.groups ?? {})),
    classes: new Set(classes.keys()),
    zone: document.time_zone ?? 'UTC',
    defaults: document.defaults ?? {},
  }
  const standings = compileStandings(document, names.classes, complain)
  const rules = compileRules(parts, names, problems)
  return {
    version: versionOf(document),
    files: parts.map(part => part.file),
    mode: document.mode ?? 'enforce',
    rules,
    byName: new Map(rules.map(rule => [rule.name, rule])),
    lookup: lookup(rules.map(rule => rule.repositories)),
    naming: naming(rules),
    people,
    delegations: compileDelegations(document, people, complain),
    standings,
    standingLookup: lookup(standings.map(({ match }) => match)),
    classes,
    rotas: compileRotas(document, people, complain),
  }
}

function compileRules(parts: readonly Part[], names: Names, problems: PolicyProblem[]): Rule[] {
  const rules: Rule[] = []
  const known = new Map<string, string>()
  for (const { file, yaml, lines, document } of parts) {
    for (const [index, said] of (document.requests ?? []).entries()) {
      const at: Path = ['requests', index]
      const complain = (fault: Fault) => problems.push(place(file, yaml, fault))
      if (rules.length === RULES_MAX) {
        complain({ path: at, message: `more than ${RULES_MAX} rules` })
        return rules
      }
      const position = `${parts.length > 1 ? `${basename(file)} ` : ''}rule ${index + 1}`
      const name = said.name ?? position
      const earlier = known.get(name)
      if (earlier !== undefined)
        complain({
          path: [...at, 'name'],
          message: `the name "${name}" is taken by ${earlier}; records name the rule that decided`,
        })
      known.set(name, `requests[${index}] in ${file}`)
      rules.push(
        compileRule(said, { name, place: `${file}:${lines[index]}`, order: rules.length }, at, names, complain),
      )
    }
  }
  return rules
}

const SCALARS = ['mode', 'time_zone', 'defaults', 'description'] as const
const TABLES = ['people', 'groups', 'services', 'classes', 'on_call'] as const
const LISTS = ['delegates', 'repositories', 'requests'] as const

function merge(parts: readonly Part[], problems: PolicyProblem[]): PolicyDocument {
  const merged: Record<string, unknown> = { version: 1 }
  for (const { file, yaml, document } of parts) {
    const clash = (path: Path, message: string) => problems.push(place(file, yaml, { path, key: true, message }))
    for (const key of SCALARS) {
      if (document[key] === undefined) continue
      if (merged[key] !== undefined && key !== 'description')
        clash([key], `said in an earlier file already; it holds for the whole policy`)
      merged[key] = document[key]
    }
    for (const key of TABLES) {
      const table = (merged[key] ?? {}) as Record<string, unknown>
      for (const [name, value] of Object.entries(document[key] ?? {})) {
        if (Object.hasOwn(table, name)) clash([key, name], `"${name}" is in an earlier file already`)
        table[name] = value
      }
      merged[key] = table
    }
    for (const key of LISTS) merged[key] = [...((merged[key] ?? []) as unknown[]), ...(document[key] ?? [])]
  }
  return merged as PolicyDocument
}

function origin(parts: readonly Part[], path: Path): { part: Part; path: Path } {
  const [key, second, ...rest] = path
  if (typeof second === 'number') {
    let index = second
    for (const part of parts) {
      const length = part.document[key as (typeof LISTS)[number]]?.length ?? 0
      if (index < length) return { part, path: [key!, index, ...rest] }
      index -= length
    }
  }
  const part = parts.findLast(({ document }) =>
    Object.hasOwn(document[key as (typeof TABLES)[number]] ?? {}, second ?? ''),
  )
  return { part: part ?? parts[0]!, path }
}

/**
 * The same content in another order of keys, with other comments or cut into files otherwise has the same version. The
 * schema gives its keys in its own order; only names that people chose are left to sort.
 */
function versionOf(document: PolicyDocument): string {
  const sorted = Object.fromEntries(
    Object.entries(document)
      .map(
        ([key, value]) =>
          [key, TABLES.some(table => table === key) ? byName(value as Record<string, unknown>) : value] as const,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
  return `p-${createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 12)}`
}

function byName(table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1)))
}
