import { Counter, type Registry } from 'prom-client'
import { gauges } from '../../audit/metrics.ts'
import type { Reuse } from './reuse.ts'

/** Puts what reuse has done into `registry`, read off it whenever somebody asks. */
export function measureReuse(registry: Registry, reuse: Pick<Reuse, 'counts' | 'bytes' | 'answers'>): void {
  const registers = [registry]
  const { counts } = reuse
  new Counter({
    name: 'drawbridge_reuse_fetches_total',
    help: 'Fetches of protocol 2: host asked to share the answer, answer shared or cached, or passed by for a reason',
    labelNames: ['how', 'reason'],
    registers,
    collect() {
      this.reset()
      for (const how of ['asked', 'shared', 'cached'] as const) this.inc({ how, reason: '' }, counts[how])
      for (const [reason, count] of Object.entries(counts.passed)) this.inc({ how: 'passed', reason }, count)
    },
  })
  const total = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  const gauge = gauges(registry)
  total('drawbridge_reuse_bytes_total', 'Bytes that were given without asking the host', () => counts.bytes)
  total('drawbridge_reuse_evicted_total', 'Answers that left the disk to make room for others', () => counts.evicted)
  gauge('drawbridge_reuse_disk_bytes', 'Disk that answers take', () => reuse.bytes)
  gauge('drawbridge_reuse_answers', 'Answers that are on disk or on their way there', () => reuse.answers)
}
