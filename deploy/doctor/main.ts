import type { Settings } from '../../config/settings.ts'
import { withEngines } from '../embedded/where.ts'
import { engineFindings } from './engines.ts'
import type { Finding } from './finding.ts'
import { machineFindings } from './machine.ts'
import { upstreamFindings } from './upstreams.ts'

/** Looks at everything a gate with these settings needs, from this machine. Changes nothing. */
export async function diagnose(written: Settings, now = Date.now()): Promise<readonly Finding[]> {
  const { settings, env } = withEngines(written)
  Object.assign(process.env, env)
  const findings = await Promise.all([
    engineFindings(settings),
    machineFindings(settings, now),
    upstreamFindings(settings, now),
  ])
  return findings.flat()
}
