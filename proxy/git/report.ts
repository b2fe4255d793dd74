import { FLUSH, line, PacketCounter, printable } from './pktline.ts'
import { band, remoteText, SidebandReader, sidebandOf } from './sideband.ts'

// gitprotocol-pack, "Report Status":
//   unpack ok|<reason>   then for each command: ok <ref>   |   ng <ref> <reason>   |   (v2) option <key> [<value>]   then 0000

const REASON_MAX = 200

/** What becomes of one ref: without a reason it is `ok`, with one `ng`. */
export interface ReportLine {
  readonly ref: string
  readonly reason?: string
}

export interface ReportOptions {
  readonly refs: readonly ReportLine[]
  /** What the client asked for; nothing is sent that was not. */
  readonly capabilities: { has(name: string): boolean }
  /** Shown as `remote: …` before the list. */
  readonly text?: string
  /** `ok`, or why the pack was not unpacked. */
  readonly unpack?: string
}

/**
 * A whole answer to a push: text on band 2, the report-status on band 1 with its own flush, the outer flush. A ref git
 * asked for and does not find in the report makes it print `error: remote failed to report status`: name all of them.
 */
export function report({ refs, capabilities, text, unpack = 'ok' }: ReportOptions): Buffer {
  const sideband = sidebandOf(capabilities)
  const wanted = capabilities.has('report-status') || capabilities.has('report-status-v2')
  const status = wanted ? Buffer.concat([line(`unpack ${oneLine(unpack)}`), ...refs.map(reportLine), FLUSH]) : FLUSH
  if (!sideband) return wanted ? status : Buffer.alloc(0)
  const told = text ? remoteText(text, 2, sideband) : Buffer.alloc(0)
  return Buffer.concat(wanted ? [told, band(1, status, sideband), FLUSH] : [told, FLUSH])
}

function reportLine({ ref, reason }: ReportLine): Buffer {
  return line(reason === undefined ? `ok ${ref}` : `ng ${ref} ${oneLine(reason)}`)
}

function oneLine(text: string): string {
  return printable(text, REASON_MAX) || 'refused'
}

// ---- reading the host's answer as it goes by ----

/** What the host said of one ref. */
export interface RefResult {
  readonly result: 'ok' | 'rejected'
  readonly reason?: string
  /** report-status-v2: what the host did instead of what it was asked (`refname`, `old-oid`, `new-oid`, `forced-update`). */
  readonly options?: Readonly<Record<string, string>>
}

export interface Report {
  /** `unknown`: no report was asked for or none that could be understood; then nothing is known of any ref. */
  readonly state: 'complete' | 'unknown'
  /** `ok`, or why the pack was not unpacked. */
  readonly unpack?: string
  readonly refs: ReadonlyMap<string, RefResult>
}

const REPORT_LINES_MAX = 40_000
const REPORT_BYTES_MAX = 8 << 20
const REPORT_LINE_MAX = 4096
const OPTIONS_MAX = 8

export interface ReportReaderOptions {
  /** What the client asked for: tells whether the report comes plain or on band 1. */
  readonly capabilities: { has(name: string): boolean }
}

/**
 * Reads a report-status out of an answer that is being relayed. Never throws: what it cannot understand makes the
 * report `unknown`, and the relay goes on.
 */
export class ReportReader {
  readonly #feed: (chunk: Buffer) => void
  readonly #refs = new Map<string, RefResult>()
  #unpack: string | undefined
  /** The ref the `option` lines that follow belong to. */
  #last: string | undefined
  #lines = 0
  #bytes = 0
  #state: 'reading' | 'complete' | 'unknown' = 'reading'

  constructor({ capabilities }: ReportReaderOptions) {
    const status = new PacketCounter({ head: REPORT_LINE_MAX, watch: (length, payload) => this.#line(length, payload) })
    const onband = (number: number, bytes: Buffer) => {
      if (number === 1) status.count(bytes)
    }
    const sideband = sidebandOf(capabilities) ? new SidebandReader({ onband }) : undefined
    this.#feed = chunk => (sideband ? sideband.write(chunk) : status.count(chunk))
    if (!capabilities.has('report-status') && !capabilities.has('report-status-v2')) this.#state = 'unknown'
  }

  /** Looks at the next chunk of the answer. */
  write(chunk: Buffer): void {
    if (this.#state !== 'reading') return
    this.#bytes += chunk.length
    if (this.#bytes > REPORT_BYTES_MAX) {
      this.#state = 'unknown'
      return
    }
    try {
      this.#feed(chunk)
    } catch {
      this.#state = 'unknown'
    }
  }

  /** What is known by now; call it when the answer has ended. */
  result(): Report {
    if (this.#state !== 'complete') return { state: 'unknown', refs: new Map() }
    return { state: 'complete', refs: this.#refs, ...(this.#unpack !== undefined && { unpack: this.#unpack }) }
  }

  #line(length: number, payload: Buffer): void {
    if (this.#state !== 'reading') return
    if (length === 0) {
      this.#state = this.#unpack === undefined ? 'unknown' : 'complete'
      return
    }
    this.#lines++
    const text = payload.toString('utf8').replace(/\n$/, '')
    const understood = length - 4 <= REPORT_LINE_MAX && this.#lines <= REPORT_LINES_MAX && this.#understand(text)
    if (!understood) this.#state = 'unknown'
  }

  #understand(text: string): boolean {
    const [word, ref, rest] = words(text)
    if (this.#unpack === undefined) {
      if (word !== 'unpack' || ref === undefined) return false
      this.#unpack = printable(text.slice('unpack '.length), REASON_MAX)
      return true
    }
    if (ref === undefined || ref === '') return false
    if (word === 'option') return this.#option(ref, rest ?? '')
    if (word === 'ok') return this.#set(ref, { result: 'ok' })
    if (word === 'ng') return this.#set(ref, { result: 'rejected', reason: printable(rest ?? '', REASON_MAX) })
    return false
  }

  #set(ref: string, result: RefResult): boolean {
    this.#last = ref
    // A host may report several results for one ref (proc-receive): the ref landed only if none of them is a refusal.
    if (this.#refs.get(ref)?.result !== 'rejected') this.#refs.set(ref, result)
    return true
  }

  #option(key: string, value: string): boolean {
    const result = this.#last === undefined ? undefined : this.#refs.get(this.#last)
    if (!result || this.#last === undefined) return false
    const options = { ...result.options, [printable(key, 64)]: printable(value, REASON_MAX) }
    if (Object.keys(options).length > OPTIONS_MAX) return false
    this.#refs.set(this.#last, { ...result, options })
    return true
  }
}

/** The first two words, and all that follows them. */
function words(text: string): [string, string?, string?] {
  const first = text.indexOf(' ')
  if (first < 0) return [text]
  const second = text.indexOf(' ', first + 1)
  if (second < 0) return [text.slice(0, first), text.slice(first + 1)]
  return [text.slice(0, first), text.slice(first + 1, second), text.slice(second + 1)]
}
