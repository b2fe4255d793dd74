import { z } from 'zod'
import { checkRepositoryPattern } from '../../grant/pattern.ts'
import { duration, HOUR, matching, publicUrl, section, text } from './value.ts'

/** Where the policy is: a file or folder on disk, or a Git repository that is read through the gate. */

const repository = text('a repository as <upstream>/<path>').refine(
  written => !written.includes('*') && checkRepositoryPattern(written) === undefined,
  { error: 'expected a repository as <upstream>/<path>, without .git' },
)

export const policy = z.union(
  [
    text('the path of a policy file'),
    section({
      repository: repository.describe('Repository of the policy, by its name at this gate: <upstream>/<path>.'),
      ref: matching(/^refs\/heads\/[^\s~^:?*[\\]+$/, 'a full ref name such as refs/heads/main')
        .default('refs/heads/main')
        .describe('The branch whose tip is in force.'),
      path: matching(/^(?!\/)(?!.*\/$)[^\0\\]+$/, 'a path in the repository such as policy or policy/main.yaml')
        .optional()
        .describe('A file or folder in it; the top of the repository unless given.'),
      every: duration(1_000, 24 * HOUR)
        .prefault('1m')
        .describe('How often the branch is looked at.'),
      url: publicUrl('https://', 'http://')
        .optional()
        .describe("The gate's own URL for git over HTTP; public_http, or where it listens, unless given."),
      ca: text('the path of a PEM file').optional().describe('Certificates to trust for it besides.'),
    }),
  ],
  { error: 'expected the path of a policy file or folder, or { repository, ref, path, every, url }' },
)
