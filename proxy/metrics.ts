import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { gauges, QUICK_SECONDS } from '../audit/metrics.ts'
import type { OperationRefused, SigninRefused } from '../audit/record.ts'
import type { Answer, Ask } from '../grant/grant.ts'
import type { Session } from './session.ts'
import type { Ssh2State } from './ssh/patched.ts'
import { type Connect, type Upstream, UpstreamError } from './upstream/upstream.ts'

/** Hosts may think for minutes about a large repository; operations run for hours. */
const UPSTREAM_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const OPERATION_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200]

/**
 * What a proxy counts. Labels are words of ours and the names of configured upstreams, a handful each: whoever asks for many
 * repositories, or under many names, makes no new time series.
 */
export interface ProxyMetrics {
  readonly registry: Registry
  ask(ask: (ask: Ask) => Promise<Answer>): (ask: Ask) => Promise<Answer>
  upstream(name: string, connect: Connect): Connect
  onEnd(session: Session): void
  onRefused(refused: Pick<OperationRefused, 'service' | 'code'>): void
  onSigninRefused(refused: Pick<SigninRefused, 'origin' | 'code'>): void
}

export function proxyMetrics(of: {
  readonly running: () => number
  readonly sshConnections: () => number
  /** Milliseconds since Redis was last heard. */
  readonly silence: () => number
  readonly ssh2: Ssh2State
  /** How many patterns of repositories are only observed. */
  readonly observing: () => number
}): ProxyMetrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const gauge = gauges(registry)
  const operations = new Counter({
    name: 'drawbridge_operations_total',
    help: 'Operations by how they ended; refused ones by the code of the refusal',
    labelNames: ['service', 'result', 'reason'],
    registers,
  })
  const seconds = new Histogram({
    name: 'drawbridge_operation_seconds',
    help: 'From the start record to the end record',
    labelNames: ['service', 'result'],
    buckets: OPERATION_SECONDS,
    registers,
  })
  const bytes = new Counter({
    name: 'drawbridge_bytes_total',
    help: "Git's bytes from clients (in) and to them (out)",
    labelNames: ['service', 'direction'],
    registers,
  })
  const gate = new Histogram({
    name: 'drawbridge_gate_seconds',
    help: 'One question for grants, answered by Redis',
    labelNames: ['answer'],
    buckets: [...QUICK_SECONDS],
    registers,
  })
  const firstByte = new Histogram({
    name: 'drawbridge_upstream_first_byte_seconds',
    help: 'Until a Git host begins to answer',
    labelNames: ['upstream', 'service'],
    buckets: UPSTREAM_SECONDS,
    registers,
  })
  const faults = new Counter({
    name: 'drawbridge_upstream_errors_total',
    help: 'Answers a Git host did not give',
    labelNames: ['upstream', 'code'],
    registers,
  })
  const cuts = new Counter({
    name: 'drawbridge_cuts_total',
    help: 'Operations that were cut',
    labelNames: ['service'],
    registers,
  })
  const observed = new Counter({
    name: 'drawbridge_observed_total',
    help: 'Operations that were let through only because their repository is observed, by the code of the refusal',
    labelNames: ['service', 'code'],
    registers,
  })
  const signins = new Counter({
    name: 'drawbridge_signins_refused_total',
    help: 'Logins that were refused, by the rule that refused them',
    labelNames: ['transport', 'code'],
    registers,
  })
  gauge('drawbridge_sessions_live', 'Operations under way', of.running)
  gauge('drawbridge_ssh_connections', 'SSH connections open', of.sshConnections)
  gauge('drawbridge_redis_silence_seconds', 'Since Redis was last heard', () => of.silence() / 1_000)
  gauge('drawbridge_observing', 'Patterns of repositories where what would be refused is let through', of.observing)
  gauge('drawbridge_ssh2_patched', '1 when ssh2 has its patch', () => Number(of.ssh2.patched))
  gauge('drawbridge_ssh2_native_crypto', '1 when ssh2 has its native ciphers; 0 costs CPU', () =>
    Number(of.ssh2.nativeCrypto),
  )

  async function timed<T>(name: string, service: string, question: () => Promise<T>): Promise<T> {
    const end = firstByte.startTimer({ upstream: name, service })
    try {
      const answer = await question()
      end()
      return answer
    } catch (error) {
      faults.inc({ upstream: name, code: error instanceof UpstreamError ? error.code : 'aborted' })
      throw error
    }
  }

  return {
    registry,
    ask: question => async ask => {
      const end = gate.startTimer()
      try {
        const answer = await question(ask)
        end({ answer: answer.kind })
        return answer
      } catch (error) {
        end({ answer: 'unreachable' })
        throw error
      }
    },
    upstream: (name, connect) => target => {
      const upstream = connect(target)
      const measured: Upstream = {
        get conversational() {
          return upstream.conversational
        },
        advertise: signal => timed(name, target.service, () => upstream.advertise(signal)),
        exchange: (body, signal) => timed(name, target.service, () => upstream.exchange(body, signal)),
        close: () => upstream.close(),
      }
      return measured
    },
    onEnd: ({ start: { service }, outcome, bytesIn, bytesOut, startedAt, instead }) => {
      const result = outcome?.result ?? 'failed'
      operations.inc({ service, result, reason: result })
      seconds.observe({ service, result }, (performance.now() - startedAt) / 1_000)
      bytes.inc({ service, direction: 'in' }, bytesIn)
      bytes.inc({ service, direction: 'out' }, bytesOut)
      if (result === 'cut') cuts.inc({ service })
      if (instead) observed.inc({ service, code: instead.code })
    },
    onRefused: ({ service, code }) => operations.inc({ service, result: 'refused', reason: code }),
    onSigninRefused: ({ origin, code }) => signins.inc({ transport: origin.transport, code }),
  }
}
