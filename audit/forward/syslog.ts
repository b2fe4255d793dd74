import { connect, type TLSSocket } from 'node:tls'
import { jsonLine } from '../export.ts'
import { facets } from '../facets.ts'
import { linked, type StoredRow } from '../read.ts'
import type { Record } from '../record.ts'
import type { Batch, Forwarder } from './forwarder.ts'

// RFC 5424 messages, framed by octet counting, over TLS (RFC 5425).

const RECORDS_PER_BATCH = 500
const CONNECT_MILLISECONDS_MAX = 10_000
/** The receiver's network takes no more for so long: given up, and begun anew. */
const SEND_MILLISECONDS_MAX = 60_000
/** TLS says nothing of what arrived: a connection that breaks within this time may have lost what was written last. */
const SETTLE_MILLISECONDS = 5_000
/** RFC 5425 wants 2,048 taken by everybody and 8,192 by most; receivers are set to more where records are to arrive whole. */
const MESSAGE_BYTES_MAX = 64 << 10
/** `log audit`, RFC 5424 table 1. */
const FACILITY = 13
const CRITICAL = 2
const WARNING = 4
const INFORMATIONAL = 6

export interface SyslogOptions {
  readonly name: string
  readonly host: string
  readonly port: number
  /** Trusted for the receiver's certificate, PEM; the system's otherwise. */
  readonly ca?: string | undefined
  /** Shown to the receiver, PEM. */
  readonly certificate?: string | undefined
  readonly key?: string | undefined
  /** HOSTNAME of the messages. */
  readonly gate: string
  readonly settle?: number
}

/** Syslog over TLS. The certificate of the receiver is checked; there is no way to leave that out. */
export function syslog(options: SyslogOptions): Forwarder {
  const { name, gate, settle = SETTLE_MILLISECONDS } = options
  let socket: TLSSocket | undefined

  return {
    name,
    records: RECORDS_PER_BATCH,
    settle,
    async send({ rows }: Batch, signal) {
      if (!socket || socket.destroyed || !socket.writable) socket = await open(options, signal)
      try {
        await write(socket, Buffer.concat(rows.map(row => frame(message(row, gate)))), signal)
      } catch (cause) {
        socket.destroy()
        throw cause
      }
    },
    close: () => socket?.destroy(),
  }
}

function open({ host, port, ca, certificate, key }: SyslogOptions, signal: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...{ host, port, minVersion: 'TLSv1.2' },
      ...(ca !== undefined && { ca }),
      ...(certificate !== undefined && { cert: certificate }),
      ...(key !== undefined && { key }),
    })
    const late = setTimeout(
      () => socket.destroy(new Error(`${host}:${port} does not answer`)),
      CONNECT_MILLISECONDS_MAX,
    )
    const stop = () => socket.destroy(new Error('stopped'))
    signal.addEventListener('abort', stop, { once: true })
    // It says nothing by syslog's rules; read, so that its end is seen.
    socket.resume()
    socket.on('error', reject)
    socket.once('close', () => {
      clearTimeout(late)
      signal.removeEventListener('abort', stop)
      reject(new Error(`${host}:${port} closed the connection`))
    })
    socket.once('secureConnect', () => {
      clearTimeout(late)
      resolve(socket)
    })
  })
}

function write(socket: TLSSocket, bytes: Buffer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => done(new Error('the receiver takes nothing')), SEND_MILLISECONDS_MAX)
    const stop = () => done(new Error('stopped'))
    const closed = () => done(new Error('the receiver closed the connection'))
    function done(error?: Error | null) {
      clearTimeout(late)
      signal.removeEventListener('abort', stop)
      socket.off('close', closed)
      if (error) reject(error)
      else resolve()
    }
    signal.addEventListener('abort', stop, { once: true })
    socket.once('close', closed)
    socket.write(bytes, done)
  })
}

/** Octet counting, RFC 5425 section 4.3: MSG-LEN SP SYSLOG-MSG. */
function frame(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from(`${bytes.length} `), bytes])
}

/** One record as one message: PROCID is the proxy, MSGID the kind, MSG the entry as `audit export` writes it. */
export function message(row: StoredRow, gate: string): string {
  const { record } = linked(row)
  const { operation, principal } = facets(record)
  const header = [
    `<${FACILITY * 8 + severity(record)}>1`,
    row.at,
    ...[printable(gate, 255), 'drawbridge', printable(row.proxy, 128), printable(record.kind, 32)],
  ]
  const parameters = { seq: String(row.seq), hash: row.hash, operation, principal }
  const given = Object.entries(parameters).filter(([, value]) => value !== null)
  // 32473 is the number that RFC 5612 keeps for those that have none of their own.
  const data = `[ledger@32473 ${given.map(([key, value]) => `${key}="${parameter(value!)}"`).join(' ')}]`
  const whole = jsonLine(row).trimEnd()
  const text =
    Buffer.byteLength(whole) <= MESSAGE_BYTES_MAX
      ? whole
      : JSON.stringify({ truncated: true, ...facets(record), refs: null })
  // The mark says that what follows is UTF-8.
  return `${header.join(' ')} ${data} \ufeff${text}`
}

function severity(record: Record): number {
  const [family] = record.kind.split('.')
  if (record.kind === 'ledger.gap' || family === 'bypass') return CRITICAL
  const { result } = facets(record)
  return family === 'anomaly' || (result !== null && result !== 'ok') ? WARNING : INFORMATIONAL
}

/** PRINTUSASCII, at most so many; `-` for nothing. */
function printable(text: string, max: number): string {
  return text.replace(/[^\x21-\x7e]/g, '?').slice(0, max) || '-'
}

/** PARAM-VALUE, section 6.3.3: three characters have to be escaped. */
function parameter(text: string): string {
  return text.replace(/["\\\]]/g, '\\$&').replace(/\p{Cc}/gu, '?')
}
