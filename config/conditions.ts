import { isIP } from 'node:net'
import { type ASTNode, Environment } from '@marcbachmann/cel-js'
import { RE2JS } from 're2js'
import { checkNetwork, isInside, networks } from './policy/network.ts'

/**
 * Conditions of the policy in the Common Expression Language, and its text patterns. Both are written by whoever may change
 * the policy and run on what anybody sends, so both are bounded when they are loaded: CEL has no loops but over lists,
 * and patterns are RE2's, whose time grows with the text and not with the pattern's cunning.
 */

const CONDITION_CHARACTERS_MAX = 2_000
const PATTERN_CHARACTERS_MAX = 500
/** Text longer than this matches no pattern. */
export const MATCHED_CHARACTERS_MAX = 4_096

/** What a condition can speak of. Times are CEL timestamps; `window` is in seconds, 0 where nobody asked for one. */
export interface ConditionContext {
  readonly principal: string
  readonly person: string
  readonly kind: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, string>>
  readonly address: string
  readonly action: string
  readonly repository: string
  readonly class: string
  readonly refs: readonly string[]
  readonly paths: readonly string[]
  readonly reason: string
  readonly ticket: string
  readonly window: number
  readonly now: number
}

export interface Condition {
  readonly text: string
  /** @throws Error where the condition has no answer, for example for a claim that is not there; that is never a yes */
  holds(context: ConditionContext): boolean
}

const VARIABLES: Readonly<Record<keyof ConditionContext, string>> = {
  principal: 'string',
  person: 'string',
  kind: 'string',
  groups: 'list<string>',
  claims: 'map<string, string>',
  address: 'string',
  action: 'string',
  repository: 'string',
  class: 'string',
  refs: 'list<string>',
  paths: 'list<string>',
  reason: 'string',
  ticket: 'string',
  window: 'int',
  now: 'google.protobuf.Timestamp',
}

const limits = { maxAstNodes: 300, maxDepth: 24, maxListElements: 100, maxMapEntries: 20, maxCallArguments: 8 }

const environment = new Environment({ limits })
for (const [name, type] of Object.entries(VARIABLES)) environment.registerVariable(name, type)
environment
  .registerFunction('re2(string, string): bool', (text: string, pattern: string) => compilePattern(pattern).finds(text))
  .registerFunction('in_network(string, string): bool', (address: string, network: string) => {
    return isIP(address) !== 0 && isInside(networks([network]), address)
  })

/** @throws Error whose message says what is wrong, on one line */
export function compileCondition(text: string): Condition {
  if (text.length > CONDITION_CHARACTERS_MAX)
    throw new Error(`a condition has at most ${CONDITION_CHARACTERS_MAX} characters`)
  const { run, ast } = parse(text)
  refuseCostly(ast, 0)
  const checked = run.check()
  if (!checked.valid) throw new Error(firstLine(checked.error))
  if (checked.type !== 'bool')
    throw new Error(`a condition answers true or false, and this is ${checked.type ?? 'something else'}`)
  return {
    text,
    holds(context) {
      const answer: unknown = run({
        ...context,
        window: BigInt(Math.floor(context.window)),
        now: new Date(context.now),
      })
      if (typeof answer !== 'boolean') throw new Error(`the condition answered ${typeof answer}`)
      return answer
    },
  }
}

function parse(text: string) {
  try {
    const run = environment.parse(text)
    return { run, ast: run.ast }
  } catch (error) {
    throw new Error(firstLine(error), { cause: error })
  }
}

const MACROS = new Set(['all', 'exists', 'exists_one', 'map', 'filter'])

/**
 * `matches()` hands its pattern to the backtracking engine of JavaScript: `(a+)+$` takes years. A loop within a loop
 * over the paths of a large push takes the square of their number. Patterns and networks have to stand in the text, so
 * that a bad one shows when the policy is loaded and not when somebody needs it.
 */
function refuseCostly(node: ASTNode, loops: number): void {
  const call = node.op === 'rcall' || node.op === 'call' ? node.args[0] : undefined
  if (call === 'matches') throw new Error('matches() can take for ever on a bad pattern; write re2(text, "pattern")')
  // Bound in a chain, twenty doublings of a text make a gigabyte.
  if (call === 'bind') throw new Error('cel.bind() is not offered; write the value where it is used')
  if (call === 'dyn') throw new Error('dyn() switches the type check off; leave it out')
  const inside = node.op === 'rcall' && MACROS.has(node.args[0]) ? loops + 1 : loops
  if (inside > 1)
    throw new Error('one loop (all, exists, map, filter) inside another is too costly; write them side by side')
  if (call === 're2') compilePattern(literal(node, 1, 're2(text, "pattern")'))
  if (call === 'in_network') {
    const fault = checkNetwork(literal(node, 1, 'in_network(address, "10.0.0.0/8")'))
    if (fault) throw new Error(fault)
  }
  for (const child of children(node.args)) refuseCostly(child, inside)
}

function literal(node: ASTNode, index: number, form: string): string {
  const given = node.op === 'call' ? node.args[1][index] : undefined
  if (given?.op !== 'value' || typeof given.args !== 'string') throw new Error(`write it out: ${form}`)
  return given.args
}

function* children(args: unknown): Generator<ASTNode> {
  if (Array.isArray(args)) for (const arg of args) yield* children(arg)
  else if (typeof args === 'object' && args !== null && 'op' in args) yield args as ASTNode
}

// The library draws the source line below its message; a problem in a policy is one line.
function firstLine(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}

/** A pattern over text, in RE2's language. */
export interface Pattern {
  readonly text: string
  /** The whole text is meant. */
  matches(text: string): boolean
  /** Some part of the text is meant. */
  finds(text: string): boolean
}

const compiled = new Map<string, Pattern>()
const COMPILED_MAX = 1_000

/** @throws Error whose message says what is wrong, on one line */
export function compilePattern(text: string): Pattern {
  const known = compiled.get(text)
  if (known) return known
  if (text.length > PATTERN_CHARACTERS_MAX)
    throw new Error(`a pattern has at most ${PATTERN_CHARACTERS_MAX} characters`)
  const re2 = compileRe2(text)
  const pattern: Pattern = {
    text,
    matches: subject => subject.length <= MATCHED_CHARACTERS_MAX && re2.matches(subject),
    finds: subject => subject.length <= MATCHED_CHARACTERS_MAX && re2.matcher(subject).find(),
  }
  if (compiled.size >= COMPILED_MAX) compiled.clear()
  compiled.set(text, pattern)
  return pattern
}

function compileRe2(text: string): RE2JS {
  try {
    return RE2JS.compile(text)
  } catch (error) {
    const why = firstLine(error).replace(/^error parsing regexp: /, '')
    const hint = /\(\?[=!<]|\\[1-9]/.test(text) ? '; look-around and back-references are not offered' : ''
    throw new Error(`${why}${hint}`, { cause: error })
  }
}
