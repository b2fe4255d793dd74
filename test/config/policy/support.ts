import type { Asker, Facts } from '../../../config/policy/govern.ts'
import { loadPolicy } from '../../../config/policy/load.ts'
import type { Policy } from '../../../config/policy.ts'

/** A policy of these lines below `version: 1`. */
export const policy = (body: string): Policy => loadPolicy([{ file: 'policy.yaml', text: `version: 1\n${body}\n` }])

export const dana: Asker = { principal: 'dana', kind: 'person', groups: ['payments'], address: '10.1.2.3' }
export const NOW = Date.parse('2026-11-18T10:00:00Z')
export const HOUR = 3_600_000
export const facts: Facts = { automatic: [], onCall: new Map() }
