import { z } from 'zod'
import { matching, section, text, WEBHOOK_SECRET } from './value.ts'

const ACTORS_MAX = 10_000

const host = {
  secret: matching(/^[\x21-\x7e]{16,300}$/, 'a secret of 16 characters or more').describe(
    'What the host proves itself by.',
  ),
  upstream: text('the name of an upstream').describe('Which of the upstreams it is.'),
  actors: z
    .record(
      matching(/^[^\p{Cc}*\s]{1,255}$/u, "the host's number of an account"),
      matching(/^[^\p{Cc}\s]{1,255}$/u, 'a principal'),
    )
    .refine(named => Object.keys(named).length <= ACTORS_MAX, `at most ${ACTORS_MAX} accounts`)
    .transform(named => new Map(Object.entries(named)))
    .prefault({})
    .describe(
      'Whose account at the host is which, by the number the host gives it: who may open windows by what they do there.',
    ),
}

/** Of hosts that say who left. */
const members = {
  organization: text('a name at the host')
    .optional()
    .describe(
      'Members who leave this organization or top group (of GitLab its path or, surer, its number) are locked out; nobody is without it.',
    ),
  principal: text('a name with {login} in it')
    .default('{login}')
    .describe('The principal of somebody whose name at the host is {login}.'),
}

const hookKinds = {
  revoke: section({
    type: z.literal('revoke'),
    secret: matching(WEBHOOK_SECRET, 'whsec_ and at least 24 bytes in base64'),
  }),
  github: section({ type: z.literal('github'), ...host, ...members }),
  gitlab: section({ type: z.literal('gitlab'), ...host, ...members }),
  bitbucket: section({ type: z.literal('bitbucket'), ...host }),
  gitea: section({ type: z.literal('gitea'), ...host }),
}

export const hooks = z
  .record(
    matching(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a name of lower-case letters, digits and -'),
    z.discriminatedUnion(
      'type',
      [hookKinds.revoke, hookKinds.github, hookKinds.gitlab, hookKinds.bitbucket, hookKinds.gitea],
      {
        error: `expected a mapping whose type is ${Object.keys(hookKinds).join(', ')}`,
      },
    ),
  )
  .transform(named => Object.entries(named).map(([name, said]) => ({ name, ...said })))
