/** Where operations are followed in time by OpenTelemetry. */
export interface TracesSettings {
  /** Of an OTLP/HTTP receiver; `https:`, or `http:` on this machine. */
  readonly url: URL
  /** The share of operations that is followed, 0 to 1. */
  readonly ratio: number
  /** Shown to the receiver with each request. */
  readonly headers: readonly { readonly name: string; readonly secret: string }[]
  /** Whether a trace that a client says it belongs to is continued. */
  readonly acceptParent: boolean
}
