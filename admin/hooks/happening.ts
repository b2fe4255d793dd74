import { z } from 'zod'
import type { HostEvent } from '../../config/policy/events.ts'

/** What a host said began, or was over. */
export interface Happening {
  readonly phase: 'began' | 'over'
  readonly event: HostEvent
  /** The host's own number of it, the same in both phases: `pipeline/30433642/1`. */
  readonly run: string
  /** At the host, without the name of the upstream. */
  readonly repository: string
  /** Of a merge its first digits do, twelve or more. */
  readonly commit?: string | undefined
  /** Who began it. */
  readonly actor: Actor
  /** When it began, by the host's clock and under its signature; milliseconds. */
  readonly at: number
  /** The run of the pipeline a job is part of. */
  readonly pipeline?: string
}

/** An account at the host. Its number stays; its login may be somebody else's tomorrow. */
export interface Actor {
  readonly id: string
  readonly login: string
}

// What becomes the name of a repository or ref is never a pattern, and what is shown is one line.
const plain = z.string().regex(/^[^\p{Cc}*?[\]\\]{1,255}$/u)

export const repositoryPath = plain
export const branch = plain.transform(short => `refs/heads/${short}`)
export const fullRef = plain.refine(ref => ref.startsWith('refs/'))
export const commit = z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/)
/** A number, or a name such as `{a54f16da-…}`. */
export const number = z.union([z.int().nonnegative().transform(String), plain])
/** With its offset from UTC, in any of the forms that hosts write. */
export const moment = z
  .string()
  .max(60)
  .regex(/(Z|UTC|[+-]\d{2}:?\d{2})$/)
  .transform(Date.parse)
  .pipe(z.int())
