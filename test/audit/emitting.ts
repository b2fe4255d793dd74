// A proxy in miniature, to be killed: starts and ends operations as fast as it can, and says on stdout which it let through.
import { writeSync } from 'node:fs'
import postgres from 'postgres'
import { createEmitter } from '../../audit/emit.ts'
import { end, quiet, start } from './records.ts'

const [url, boot] = process.argv.slice(2) as [string, string]
const sql = postgres(url, { max: 2 })
const { emit, recover } = await createEmitter({ sql, proxy: 'child', boot, log: quiet })
const recovering = recover()

async function operate(lane: number): Promise<void> {
  for (let i = 0; ; i++) {
    const operation = `op-${boot}-${lane}-${i}`
    await emit(start(operation))
    writeSync(1, `${operation}\n`)
    if (i % 3 === 0) await new Promise(resolve => setTimeout(resolve, 2))
    await emit(end(operation, lane % 2 === 0 ? {} : { service: 'upload-pack', action: 'fetch' }))
  }
}
await Promise.all([recovering, ...Array.from({ length: 8 }, (_, lane) => operate(lane))])
