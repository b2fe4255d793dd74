import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { Log } from './emit.ts'
import { type Head, parseHead } from './head.ts'

/** A webhook that has not answered by then is tried again with the next head. */
const WEBHOOK_MILLISECONDS = 10_000
const RETRY_MILLISECONDS = 5_000
/** Read from the end of a heads file to find the last head. */
const TAIL_BYTES = 64 << 10

/** Puts a head somewhere outside the database; rejects when it is not there. */
export interface Publisher {
  readonly name: string
  publish(head: Head): Promise<void>
}

/** Appends each head as a line of JSON and waits for the disk. Ship the file away: it is the proof. */
export function fileHeads(path: string): Publisher {
  return {
    name: `file ${path}`,
    async publish(head) {
      const file = await open(
        path,
        constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW,
        0o644,
      )
      try {
        await file.appendFile(`${JSON.stringify(head)}\n`)
        await file.datasync()
      } finally {
        await file.close()
      }
    },
  }
}

/** One line on standard output, where a log collector takes it away. */
export function streamHeads(stream: Writable): Publisher {
  return {
    name: 'stdout',
    publish: head =>
      new Promise((resolve, reject) => {
        stream.write(`${JSON.stringify({ event: 'ledger.head', ...head })}\n`, error =>
          error ? reject(error) : resolve(),
        )
      }),
  }
}

/** POSTs the head as JSON; any 2xx will do, redirects are not followed. */
export function webhookHeads(url: URL, headers: Readonly<{ [name: string]: string }> = {}): Publisher {
  return {
    name: `webhook ${url.origin}`,
    async publish(head) {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(head),
        redirect: 'manual',
        signal: AbortSignal.timeout(WEBHOOK_MILLISECONDS),
      })
      await response.body?.cancel()
      if (!response.ok) throw new Error(`${url.origin} answered ${response.status}`)
    },
  }
}

/** Adds the head to a Redis stream; `add` is XADD on the stream of the caller's choice. */
export function redisHeads(add: (field: string, value: string) => Promise<unknown>): Publisher {
  return {
    name: 'redis',
    async publish(head) {
      await add('head', JSON.stringify(head))
    },
  }
}

/** Gives heads to every publisher, each at its own pace. */
export interface Publication {
  publish(head: Head): void
  close(): Promise<void>
}

/**
 * Each publisher has one head under way and remembers the newest behind it: a head vouches for everything before, so one that
 * was skipped because a webhook hung is not missed.
 */
export function publication(publishers: readonly Publisher[], log: Log): Publication {
  const stop = new AbortController()
  const lanes = publishers.map(publisher => lane(publisher, log, stop.signal))
  return {
    publish: head => {
      for (const { offer } of lanes) offer(head)
    },
    async close() {
      stop.abort()
      await Promise.all(lanes.map(({ idle }) => idle()))
    },
  }
}

function lane(publisher: Publisher, log: Log, stop: AbortSignal) {
  let newest: Head | undefined
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    while (newest) {
      const head = newest
      newest = undefined
      try {
        await publisher.publish(head)
      } catch (cause) {
        log.error({ err: cause, publisher: publisher.name, seq: head.seq }, 'head of the ledger not published')
        if (stop.aborted) return
        newest ??= head
        await pause(RETRY_MILLISECONDS, stop)
      }
    }
  }

  return {
    offer(head: Head) {
      newest = head
      running ??= run().finally(() => {
        running = undefined
      })
    },
    idle: async () => await running,
  }
}

async function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  await setTimeout(milliseconds, undefined, { signal: stop }).catch(() => {})
}

/** The last head in a file made by `fileHeads`, or nothing when there is none yet. A line torn by a crash is passed over. */
export async function lastHeadIn(path: string): Promise<Head | undefined> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    if (Reflect.get(cause as object, 'code') === 'ENOENT') return undefined
    throw cause
  })
  if (!file) return undefined
  try {
    const { size } = await file.stat()
    const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES))
    await file.read(bytes, 0, bytes.length, size - bytes.length)
    for (const line of bytes.toString().split('\n').reverse()) {
      try {
        return parseHead(line)
      } catch {
        // Empty, torn, or cut by the window; the one before it counts.
      }
    }
    return undefined
  } finally {
    await file.close()
  }
}
