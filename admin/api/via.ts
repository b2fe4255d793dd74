import type { FastifyRequest } from 'fastify'
import type { Via } from '../../audit/record.ts'
import { callerOf } from './control.ts'

/** By which way somebody came to the API: for readers of the record, and no reason to believe anything more. */
export function viaOf(request: FastifyRequest): Via {
  const ownCommandLine = request.headers['user-agent']?.startsWith('drawbridge-cli') ?? false
  return callerOf(request).via?.transport ?? (ownCommandLine ? 'cli' : 'api')
}
