import type { Emitter } from '../audit/emit.ts'

// Stands for audit/emit.ts in one proxy of the bench: every record is taken at once and goes nowhere. What the proxy then takes less
// for an operation is what its records cost. No product can be set to this.

export async function createEmitter(): Promise<Emitter> {
  return {
    emit: async () => {},
    unfinished: async () => [],
    recover: async () => 0,
    state: () => ({ ledger: 'there', queued: 0, spooledBytes: 0 }),
    conceal() {},
    close: async () => {},
  }
}
