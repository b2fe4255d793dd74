import { z } from 'zod'
import { branch, commit, type Happening, moment, number, repositoryPath } from './happening.ts'
import { name } from './heard.ts'

/**
 * Merges, workflow runs and jobs, which GitHub and Gitea tell alike. docs.github.com/en/webhooks/webhook-events-and-payloads:
 * `pull_request`, `workflow_run`, `workflow_job`; docs.gitea.com/usage/repository/webhooks: the same.
 */

const account = z.object({ id: number, login: name })
/** GitHub writes one that has no title as one without letters. */
const title = z
  .string()
  .regex(/^\P{Cc}{0,255}$/u)
  .nullish()
export const repository = z.object({ full_name: repositoryPath })

const merged = z.object({
  action: z.literal('closed'),
  pull_request: z.object({
    id: number,
    merged: z.literal(true),
    merged_at: moment,
    merge_commit_sha: commit.nullish(),
    merged_by: account,
    base: z.object({ ref: branch }),
  }),
  repository,
})

const DAY_MILLISECONDS = 86_400_000

/** Runs of code that is in the repository itself. What a pull request brings, from a fork of anybody's, opens nothing. */
const OWN = ['push', 'workflow_dispatch', 'repository_dispatch', 'schedule', 'release', 'merge_group'] as const

const workflowRun = z.object({
  action: z.enum(['requested', 'in_progress', 'completed']),
  workflow_run: z.object({
    id: number,
    run_attempt: z.int().default(1),
    name: title,
    head_branch: branch,
    head_sha: commit,
    event: z.enum(OWN),
    head_repository: repository,
    triggering_actor: account.nullish(),
    trigger_actor: account.nullish(),
    run_started_at: moment.nullish(),
    started_at: moment.nullish(),
  }),
  workflow: z.object({ name: title }).nullish(),
  repository,
  sender: account,
})

const workflowJob = z.object({
  action: z.enum(['in_progress', 'completed']),
  workflow_job: z.object({
    id: number,
    run_id: number,
    run_attempt: z.int().default(1),
    name,
    head_branch: branch,
    head_sha: commit,
    started_at: moment.nullish(),
  }),
  repository,
  sender: account,
})

/** @param event as the host's header names it; the body alone has to bear it out */
export function actionsHappening(event: string | undefined, body: unknown): Happening | undefined {
  if (event === 'pull_request') return mergeOf(merged.safeParse(body).data)
  if (event === 'workflow_run') return runOf(workflowRun.safeParse(body).data)
  if (event === 'workflow_job') return jobOf(workflowJob.safeParse(body).data)
  return undefined
}

function mergeOf(data: z.infer<typeof merged> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { id, base, merged_by, merged_at, merge_commit_sha } = data.pull_request
  return {
    phase: 'began',
    event: { kind: 'merge', ref: base.ref },
    run: `merge/${id}`,
    repository: data.repository.full_name,
    commit: merge_commit_sha ?? undefined,
    actor: merged_by,
    at: merged_at,
  }
}

function runOf(data: z.infer<typeof workflowRun> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { workflow_run: run, workflow, sender } = data
  const phase = data.action === 'completed' ? 'over' : 'began'
  const at = run.run_started_at ?? run.started_at ?? 0
  if (run.head_repository.full_name !== data.repository.full_name || !hasBegun(phase, at)) return undefined
  const called = run.name || workflow?.name
  return {
    phase,
    event: { kind: 'pipeline', ref: run.head_branch, ...(called && { name: called }) },
    run: pipelineRun(run.id, run.run_attempt),
    repository: data.repository.full_name,
    commit: run.head_sha,
    actor: run.triggering_actor ?? run.trigger_actor ?? sender,
    at,
  }
}

function jobOf(data: z.infer<typeof workflowJob> | undefined): Happening | undefined {
  if (data === undefined) return undefined
  const { workflow_job: job, sender } = data
  const phase = data.action === 'completed' ? 'over' : 'began'
  const at = job.started_at ?? 0
  if (!hasBegun(phase, at)) return undefined
  return {
    phase,
    event: { kind: 'job', name: job.name, ref: job.head_branch },
    run: `job/${job.id}`,
    repository: data.repository.full_name,
    commit: job.head_sha,
    actor: sender,
    at,
    pipeline: pipelineRun(job.run_id, job.run_attempt),
  }
}

/** What still waits for a runner has begun in 1970, writes Gitea. What is over may never have. */
const hasBegun = (phase: Happening['phase'], at: number) => phase === 'over' || at > DAY_MILLISECONDS

const pipelineRun = (id: string, attempt: number) => `pipeline/${id}/${attempt}`
