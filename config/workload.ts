/** Jobs of CI systems that show who they are by a token of their own (OpenID Connect), and what the gate makes of it. */

export interface WorkloadSettings {
  readonly name: string
  readonly preset: PresetName
  readonly issuer: URL
  /** The one `aud` a token must have: what the job asks its CI system to put there. */
  readonly audience: string
  /** Claim → the values, or patterns, of which it must have one. A claim that is missing matches nothing. */
  readonly claims: ReadonlyMap<string, readonly string[]>
  /** Milliseconds: how long the token is good that a job is given. */
  readonly lasts: number
}

export interface Preset {
  /** Absent: it differs from one organisation to the next, and the settings say it. */
  readonly issuer?: string
  /** The job's name at the gate: `{claim}` stands for a claim that must be there. */
  readonly principal: string
  /**
   * Claims that stay with one repository, project or account for ever. One of them has to be named exactly: names can be given
   * up, and taken by somebody else.
   */
  readonly ids: readonly string[]
  /** Values that are refused unless the settings name the claim: runs that others can start with code of theirs. */
  readonly refused?: Readonly<Record<string, readonly string[]>>
}

export type PresetName = keyof typeof PRESETS

export const PRESETS = {
  github: {
    issuer: 'https://token.actions.githubusercontent.com',
    principal: 'ci:github:{repository}:{ref}',
    ids: ['repository_id', 'repository_owner_id'],
    refused: { event_name: ['pull_request', 'pull_request_target'] },
  },
  gitlab: {
    issuer: 'https://gitlab.com',
    principal: 'ci:gitlab:{project_path}:{ref}',
    ids: ['project_id', 'namespace_id'],
  },
  bitbucket: { principal: 'ci:bitbucket:{repositoryUuid}', ids: ['repositoryUuid', 'workspaceUuid'] },
  circleci: {
    principal: 'ci:circleci:{oidc.circleci.com/project-id}',
    ids: ['oidc.circleci.com/project-id', 'oidc.circleci.com/org-id'],
  },
  buildkite: {
    issuer: 'https://agent.buildkite.com',
    principal: 'ci:buildkite:{organization_slug}/{pipeline_slug}',
    ids: ['pipeline_id', 'organization_id'],
  },
  kubernetes: {
    principal: 'ci:kubernetes:{kubernetes.io/namespace}/{kubernetes.io/serviceaccount/name}',
    ids: ['kubernetes.io/serviceaccount/uid'],
  },
} as const satisfies Readonly<Record<string, Preset>>

/** Why these claims are no safe way to tell one's own jobs from those of others; undefined when they are. */
export function claimsFault(preset: PresetName, claims: ReadonlyMap<string, readonly string[]>): string | undefined {
  const ids: readonly string[] = PRESETS[preset].ids
  const exact = ids.some(id => claims.get(id)?.every(value => !value.includes('*')))
  if (!exact) return `expected one of ${ids.join(', ')} by its exact value; names can be taken by somebody else`
  // `repo:acme/*` and the like have let strangers in: what stands in sub differs with settings of the CI system.
  if (claims.get('sub')?.some(value => value.includes('*')))
    return 'expected sub without *; name the claims it is made of'
  return undefined
}
