/** Where a policy is kept that is read from a Git repository, through the gate like every other. */
export interface PolicyRepository {
  /** `<upstream>/<path>` */
  readonly repository: string
  /** A full ref name. */
  readonly ref: string
  /** A file or folder in it; empty: the repository's own. */
  readonly path: string
  /** Milliseconds between two looks. */
  readonly every: number
  /** The gate's URL for git over HTTP. */
  readonly url: string
  /** Certificates to trust for it besides, PEM. */
  readonly caFile?: string
}
