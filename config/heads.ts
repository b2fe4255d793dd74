/** Where signed heads of the ledger are published besides the file in the state folder, which is always written. */
export interface HeadsSettings {
  /** One line of JSON each on standard output, for whatever collects that. */
  readonly stdout: boolean
  readonly webhook?: {
    /** `https:`, or `http:` on this machine. */
    readonly url: URL
    readonly headers: readonly { readonly name: string; readonly secret: string }[]
  }
  /** A stream in the gate's own Redis. */
  readonly redis?: string
}
