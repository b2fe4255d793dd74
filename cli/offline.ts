import { createReadStream, existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parsePartProof } from '../audit/boundary.ts'
import { parseExport } from '../audit/export.ts'
import { type Head, parseHead, readPublicKeys } from '../audit/head.ts'
import { flawOfConsistency, flawOfReceipt, parseProof } from '../audit/receipt.ts'
import { type Verdict, verifyLedger } from '../audit/verify.ts'
import { readText } from './client.ts'
import { CommandError, EXIT, json, say } from './say.ts'

// Checks what the gate once handed out, on any machine, by the public key alone. Nobody is asked.

export interface Evidence {
  /** PEM of the key that heads are signed with, from a source as safe as the heads. */
  readonly key: string
  /** Heads that were kept elsewhere. */
  readonly heads?: string | undefined
  readonly json?: boolean | undefined
}

/** `drawbridge audit verify --receipt FILE`: a receipt, or a proof of consistency. */
export async function verifyProof(file: string, evidence: Evidence): Promise<void> {
  const keys = await trustedKeys(evidence.key)
  const heads = evidence.heads === undefined ? [] : keptHeads(evidence.heads)
  const text = readText(file, '--receipt')
  const proof = understood(file, () => parseProof(text))
  const flaw =
    proof.kind === 'drawbridge.receipt' ? flawOfReceipt(proof, keys, heads) : flawOfConsistency(proof, keys, heads)
  if (evidence.json) json({ ok: flaw === undefined, ...(flaw !== undefined && { flaw }) })
  if (flaw !== undefined) throw new CommandError(EXIT.failed, `${file}: ${flaw}`)
  if (proof.kind === 'drawbridge.consistency') {
    const { first, second } = proof
    say(
      `the ledger of ${first.seq} records (${first.time}) is the beginning of the one of ${second.seq} (${second.time})`,
    )
    return
  }
  const places = proof.records.map(({ entry }) => `${entry.seq} (${entry.record.kind})`).join(', ')
  say(`${proof.of} is in the ledger as it was signed on ${proof.head.time}: record ${places}`)
}

/** `drawbridge audit verify --export FILE`: the ledger as `audit export` or retention wrote it, against heads. */
export async function verifyExport(
  file: string,
  { key, heads: kept, proof: given }: Evidence & { readonly proof?: string | undefined },
): Promise<Verdict> {
  const keys = await trustedKeys(key)
  const beside = `${file}.proof.json`
  const proofFile = given ?? (existsSync(beside) ? beside : undefined)
  const proof =
    proofFile === undefined ? undefined : understood(proofFile, () => parsePartProof(readText(proofFile, '--proof')))
  if (kept === undefined && proof === undefined) {
    throw new CommandError(
      EXIT.usage,
      '--export needs --heads FILE',
      'STATE/ledger/ledger-heads.jsonl of the admin role',
    )
  }
  const last = proof?.boundary.seq ?? Number.MAX_SAFE_INTEGER
  const heads = [...(proof?.heads ?? []), ...(kept === undefined ? [] : keptHeads(kept))].filter(
    ({ seq }) => seq <= last,
  )
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })
  try {
    const entries = parseExport(lines)
    return await verifyLedger({ entries, heads, keys, boundary: proof?.before, through: proof?.boundary })
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new CommandError(EXIT.failed, `${file}: ${cause.message}`)
    throw new CommandError(
      EXIT.usage,
      `--export: cannot read ${file}: ${Reflect.get(cause as object, 'code') ?? cause}`,
    )
  }
}

/** Heads from a file, one JSON object a line. */
export function keptHeads(file: string): Head[] {
  const lines = readText(file, '--heads').split('\n')
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return []
    return [understood(`--heads: ${file}, line ${index + 1}`, () => parseHead(line), EXIT.usage)]
  })
}

async function trustedKeys(file: string) {
  try {
    return await readPublicKeys(file)
  } catch (cause) {
    throw new CommandError(EXIT.usage, `--key: ${cause instanceof Error ? cause.message : cause}`)
  }
}

function understood<T>(where: string, read: () => T, exit: typeof EXIT.failed | typeof EXIT.usage = EXIT.failed): T {
  try {
    return read()
  } catch (cause) {
    throw new CommandError(exit, `${where}: ${cause instanceof Error ? cause.message : cause}`)
  }
}
