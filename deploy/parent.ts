/** What a child process of ours and its supervisor say to each other, over Node's IPC channel. */
export interface ReadyMessage {
  readonly kind: 'ready'
  readonly urls: Readonly<Record<string, string>>
}

/** Tells the supervisor, or, without one, whoever reads stdout, that this process serves. */
export function announceReady(
  urls: Readonly<Record<string, string>>,
  facts: Readonly<Record<string, unknown>> = {},
): void {
  const message: ReadyMessage = { kind: 'ready', urls }
  if (process.send) process.send(message)
  else process.stdout.write(`${JSON.stringify({ ...message, ...facts })}\n`)
}

/** Why a process that is about to end could not serve, for the supervisor to show. */
export interface FailedMessage {
  readonly kind: 'failed'
  readonly message: string
}

/** Tells the supervisor, where there is one, why this process cannot serve. */
export async function announceFailure(message: string): Promise<void> {
  const failed: FailedMessage = { kind: 'failed', message }
  await new Promise<void>(resolve =>
    process.send ? process.send(failed, undefined, undefined, () => resolve()) : resolve(),
  )
}

/**
 * Resolves at SIGTERM or SIGINT, or when the supervisor is gone (its end of the channel closes however it died). A second
 * signal ends the process at once.
 */
export function untilToldToStop(): Promise<string> {
  return new Promise(resolve => {
    let told = false
    const stop = (why: string) => () => {
      if (told && why !== 'disconnect') process.exit(1)
      told = true
      resolve(why)
    }
    process.on('SIGTERM', stop('SIGTERM'))
    process.on('SIGINT', stop('SIGINT'))
    if (process.channel) process.once('disconnect', stop('disconnect'))
  })
}
