import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { explain, type Question } from '../config/evaluate.ts'
import { policySources, readPolicy } from '../config/policy/load.ts'
import { PolicyError } from '../config/policy/problems.ts'
import { allOnCallAt } from '../config/policy/rota.ts'
import { unenforced } from '../config/policy/unenforced.ts'
import { loadPolicyTests, runPolicyTests } from '../config/policy/unittest.ts'
import { readTrigger } from '../config/policy/words.ts'
import { asking } from './command.ts'
import { type ReplayOptions, runReplay } from './replay.ts'
import { CommandError } from './say.ts'

/**
 * `drawbridge policy check|explain|test|replay`. These read files and ask nobody, so that they run in any pipeline; only
 * `replay --since` asks a gate, for what it recorded.
 *
 * Exit status: 0 well; 1 the answer is no (a test failed, an operation is refused, a replay found changes with --strict);
 * 2 the policy, or what was typed, is not understood.
 */
export function policyCommand(program: Command): void {
  const policy = program.command('policy').description('check, explain, test and replay the policy')

  policy
    .command('check')
    .description('read a policy and say everything that is wrong with it')
    .argument('[path]', 'a file, or a folder of .yaml files', 'policy.yaml')
    .option('--strict', 'exit with 1 when it says something this gate cannot do yet')
    .option('--json', 'as JSON')
    .action((path: string, options: { strict?: boolean; json?: boolean }) =>
      understood(options, () => {
        const policy = readPolicy(path)
        const { version, rules, files } = policy
        const beyond = unenforced(policy)
        if (options.json) data({ ok: true, version, rules: rules.length, files, unenforced: beyond })
        else {
          for (const { place, sentence } of beyond) say(`${place}: ${sentence}`)
          say(
            `policy ${version}: ${rules.length} ${rules.length === 1 ? 'rule' : 'rules'} in ${files.length === 1 ? files[0] : `${files.length} files`}`,
          )
        }
        return options.strict && beyond.length > 0 ? 1 : 0
      }),
    )

  policy
    .command('explain')
    .description('which rule decides, and what would be needed')
    .argument('<principal>')
    .argument('<action>', 'push, clone, force-push, delete, tag, …')
    .argument('<repository>', '<upstream>/<path>')
    .argument('[refs...]')
    .option('--policy <path>', 'a file or a folder', 'policy.yaml')
    .option('--group <name...>', 'a group of the principal at the identity provider')
    .option('--kind <kind>', 'person, ci or service', 'person')
    .option('--address <address>', 'where they come from')
    .option('--path <path...>', 'what a push changes')
    .option('--at <moment>', 'at another time, such as 2026-12-24T18:00:00Z')
    .option('--json', 'as JSON')
    .action((principal: string, action: string, repository: string, refs: string[], options: ExplainOptions) =>
      understood(options, () => explainAll({ principal, action, repository, refs }, options)),
    )

  policy
    .command('test')
    .description('run the unit tests beside the policy (*.test.yaml)')
    .argument('[path]', 'the policy: a file or a folder', 'policy.yaml')
    .option('--json', 'as JSON')
    .action((path: string, options: { json?: boolean }) => understood(options, () => runTests(path, options)))

  policy.addCommand(
    asking('replay', 'what this policy would change for operations that were recorded')
      .argument('[path]', 'the new policy', 'policy.yaml')
      .option('--since <time>', 'those that the gate recorded since then: 30d, or 2026-01-31T12:00:00Z')
      .option('--until <time>', 'and before this time')
      .option('--operations <file>', 'instead of those: one JSON object a line; - is standard input')
      .option('--before <path>', 'compare with this policy, and not with what happened')
      .option('--strict', 'exit with 1 when anything would change')
      .action((path: string, options: ReplayOptions) => understood(options, () => runReplay(path, options))),
  )
}

interface ExplainOptions {
  readonly policy: string
  readonly group?: string[]
  readonly kind: string
  readonly address?: string
  readonly path?: string[]
  readonly at?: string
  readonly json?: boolean
}

function explainAll(
  asked: { principal: string; action: string; repository: string; refs: string[] },
  options: ExplainOptions,
): number {
  const trigger = readTrigger(asked.action)
  if (typeof trigger === 'string') throw new UsageError(trigger)
  const { kind } = options
  if (kind !== 'person' && kind !== 'ci' && kind !== 'service') throw new UsageError('--kind is person, ci or service')
  const now = options.at === undefined ? Date.now() : Date.parse(options.at)
  if (Number.isNaN(now)) throw new UsageError('--at is a moment such as 2026-12-24T18:00:00Z')
  const refs = (trigger.ref === undefined ? asked.refs : [trigger.ref]).map(ref =>
    ref.startsWith('refs/') ? ref : `refs/heads/${ref}`,
  )
  const policy = readPolicy(options.policy)
  const who = {
    principal: asked.principal,
    kind,
    groups: options.group ?? [],
    ...(options.address !== undefined && { address: options.address }),
  } as const
  // `push` is several actions; those that mean nothing on the refs named are left out.
  const tags = refs.length > 0 && refs.every(ref => ref.startsWith('refs/tags/'))
  const relevant = trigger.actions.filter(
    action =>
      trigger.actions.length === 1 ||
      (action !== 'lfs-upload' && action !== 'lfs-download' && (action === 'tag') === tags),
  )
  // As of somebody who holds no window, and for whom nothing was approved by itself yet.
  const facts = { grants: [], automatic: [], onCall: allOnCallAt(policy.rotas, now) }
  const explained = relevant.map(action => {
    const question: Question = {
      ...who,
      action,
      repository: asked.repository,
      refs,
      ...(options.path && { paths: options.path }),
    }
    return { action, ...explain(policy, question, facts, now) }
  })
  if (options.json) data(explained.map(({ action, decision, trace }) => ({ action, decision, trace })))
  else {
    for (const { action, trace } of explained) {
      data(`${action}:`)
      for (const sentence of trace) data(`  ${sentence}`)
    }
  }
  return explained.some(({ decision }) => decision.kind === 'refused') ? 1 : 0
}

function runTests(path: string, options: { json?: boolean }): number {
  const policy = readPolicy(path)
  const sources = testFiles(path).map(file => ({ file, text: readFileSync(file, 'utf8') }))
  if (sources.length === 0) throw new UsageError(`no *.test.yaml beside ${path}`)
  const results = runPolicyTests(policy, loadPolicyTests(sources))
  const failed = results.filter(({ differences }) => differences.length > 0)
  if (options.json) data({ version: policy.version, results })
  else {
    for (const { place, name, differences } of failed) {
      data(`${place}: ${name}`)
      for (const difference of differences) data(`  ${difference}`)
    }
    say(`${results.length - failed.length} passed, ${failed.length} failed`)
  }
  return failed.length === 0 ? 0 : 1
}

function testFiles(path: string): string[] {
  policySources(path)
  const folder = statSync(path).isDirectory() ? path : dirname(path)
  const names = readdirSync(folder).filter(name => /\.test\.ya?ml$/.test(name))
  return names.sort().map(name => join(folder, name))
}

/** What was typed cannot be done. */
class UsageError extends Error {}

async function understood(options: { json?: boolean }, run: () => number | Promise<number>): Promise<void> {
  try {
    process.exitCode = await run()
  } catch (error) {
    if (error instanceof CommandError) throw error
    const known =
      error instanceof UsageError || error instanceof PolicyError || (error instanceof Error && 'code' in error)
    if (!known) throw error
    process.exitCode = 2
    if (options.json && error instanceof PolicyError) data({ ok: false, problems: error.problems })
    else say((error as Error).message)
  }
}

function data(value: unknown): void {
  process.stdout.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`)
}

function say(text: string): void {
  for (const line of text.split('\n')) process.stderr.write(`drawbridge: ${line}\n`)
}
