import type { Sql } from 'postgres'
import { facets } from './facets.ts'
import { type Head, type HeadKey, signHead, verifyHead } from './head.ts'
import type { Arrival } from './inbox.ts'
import { GrowingTree, peaksFrom, type Subtree } from './merkle.ts'
import type { Ends } from './open.ts'
import type { Record } from './record.ts'

// The statements of the ledger writer.

const DIVISION_BY_ZERO = '22012'
/** Moved in one commit. */
const MOVE_RECORDS_MAX = 4_000
const MOVE_BYTES_MAX = 32 << 20

/** The end of the chain, with all that is needed to go on. */
export interface ChainEnd {
  readonly seq: number
  readonly hash: Buffer
  /** When the last record was taken, milliseconds since the epoch. */
  readonly recorded: number
  readonly tree: GrowingTree
}

/** A record that the writer wrote: of a gap, or in the place of a second end. */
export interface OwnRecord extends Omit<Arrival, 'arrival' | 'kind' | 'operation'> {
  readonly record: Record
  readonly seq: number
  readonly hash: Buffer
}

/** The place a record from the inbox was given. */
export interface Placed {
  readonly arrival: string
  readonly seq: number
  readonly hash: Buffer
}

export interface Move {
  readonly from: ChainEnd
  readonly to: ChainEnd
  readonly placed: readonly Placed[]
  readonly own: readonly OwnRecord[]
  /** Subtrees of the Merkle tree that these records complete. */
  readonly subtrees: readonly Subtree[]
  /** Leave the inbox without a place: sent twice, or a second end, for which one of `own` stands. */
  readonly dropped: readonly string[]
  readonly ends: Pick<Ends, 'opened' | 'closed'>
  /** The last number of each run that occurs. */
  readonly advanced: readonly { readonly proxy: string; readonly boot: string; readonly last: number }[]
}

/** Another writer, or somebody with the database in hand, moved the end of the chain meanwhile. Nothing was written. */
export class ChainMoved extends Error {
  readonly code = 'ERR_LEDGER_CHAIN_MOVED'
}

/** Reads the end of the chain. */
export async function loadChain(sql: Sql): Promise<ChainEnd> {
  const [row] = await sql<{ seq: string; hash: Buffer; recorded: Date; peaks: Buffer }[]>`
    select seq, hash, recorded, peaks from audit.chain`
  if (!row) throw new ChainMoved('audit.chain is empty; the database was not made by the migrations')
  const seq = Number(row.seq)
  return { seq, hash: row.hash, recorded: row.recorded.getTime(), tree: new GrowingTree(peaksFrom(seq, row.peaks)) }
}

/** The hash that record `seq` bears in the database. */
export async function hashAt(sql: Sql, seq: number): Promise<string | undefined> {
  const [row] = await sql<{ hash: Buffer }[]>`select hash from audit.record where seq = ${seq}`
  return row?.hash.toString('hex')
}

/**
 * The oldest of the inbox, as many as one move takes; always at least one if there is any.
 * @param taken those that are being moved: they may still be there, or not
 */
export async function readInbox(sql: Sql, taken: readonly Pick<Arrival, 'arrival'>[] = []): Promise<Arrival[]> {
  const rows = await sql<(Omit<Arrival, 'n'> & { n: string })[]>`
    select arrival, proxy, boot, n, at, kind, operation, body from (
      select arrival, proxy, boot, n, floor(extract(epoch from at) * 1000)::float8 as at, kind, operation, body,
        sum(octet_length(body)) over (order by arrival) - octet_length(body) as before
      from (
        -- Not those after the last one taken: an older one whose commit took longer would be missed, and called lost.
        select * from audit.inbox where arrival not in (select unnest(${taken.map(({ arrival }) => arrival)}::bigint[]))
        order by arrival limit ${MOVE_RECORDS_MAX}
      ) as oldest
    ) as bite
    where before < ${MOVE_BYTES_MAX} order by arrival`
  return rows.map(row => ({ ...row, n: Number(row.n) }))
}

/** How far each of these runs has come; those never seen are left out. */
export async function readSources(sql: Sql, runs: readonly Pick<Arrival, 'proxy' | 'boot'>[]) {
  const rows = await sql<{ proxy: string; boot: string; last: string }[]>`
    select proxy, boot, last from audit.source
    join unnest(${runs.map(run => run.proxy)}::text[], ${runs.map(run => run.boot)}::text[]) as asked (proxy, boot)
      using (proxy, boot)`
  return rows.map(row => ({ ...row, last: Number(row.last) }))
}

/** Which of these are in the chain already. */
export async function inChain(sql: Sql, arrivals: readonly Arrival[]) {
  const proxies = arrivals.map(one => one.proxy)
  const boots = arrivals.map(one => one.boot)
  const numbers = arrivals.map(one => String(one.n))
  const rows = await sql<{ proxy: string; boot: string; n: string }[]>`
    select proxy, boot, n from audit.record
    join unnest(${proxies}::text[], ${boots}::text[], ${numbers}::bigint[]) as asked (proxy, boot, n) using (proxy, boot, n)`
  return rows.map(row => ({ ...row, n: Number(row.n) }))
}

/**
 * Moves records from the inbox into the chain: one statement, so all of it or nothing. (`sql.begin` would read better, but with
 * postgres 3.4.9 a connection that breaks inside it takes the process along.)
 * @throws ChainMoved when the chain does not end at `from` any more, or the inbox lost one of the records
 */
export async function commitMove(
  sql: Sql,
  { from, to, placed, own, subtrees, dropped, ends, advanced }: Move,
): Promise<void> {
  const recorded = new Date(to.recorded)
  // Hashes travel as one string each: arrays of bytea are slow to quote.
  const hashes = Buffer.concat(placed.map(({ hash }) => hash))
  const ownHashes = Buffer.concat(own.map(({ hash }) => hash))
  const subtreeHashes = Buffer.concat(subtrees.map(({ hash }) => hash))
  try {
    await sql`
      with extended as (
        update audit.chain
        set seq = ${to.seq}, hash = ${to.hash}, recorded = ${recorded}, peaks = ${Buffer.concat(to.tree.peaks().roots)}
        where seq = ${from.seq} and hash = ${from.hash}
        returning seq
      ),
      placed as materialized (
        select arrival, seq, substring(${hashes}::bytea from (32 * (place - 1) + 1)::int for 32) as hash
        from unnest(${placed.map(({ arrival }) => arrival)}::bigint[], ${placed.map(({ seq }) => String(seq))}::bigint[])
          with ordinality as given (arrival, seq, place)
      ),
      moved as (
        delete from audit.inbox using placed where inbox.arrival = placed.arrival
        returning placed.seq, placed.hash, inbox.*
      ),
      inserted as (
        insert into audit.record
          (seq, recorded, proxy, boot, n, at, kind, operation, principal, actor, repository, action, result, grants, refs, body, hash)
        select
          seq, ${recorded}, proxy, boot, n, at, kind, operation, principal, actor, repository, action, result, grants, refs, body, hash
        from moved order by seq
        returning seq
      ),
      added as (
        insert into audit.record (seq, recorded, proxy, boot, n, at, kind, operation, actor, body, hash)
        select seq, ${recorded}, proxy, boot, n, at, kind, operation, actor, body,
          substring(${ownHashes}::bytea from (32 * (place - 1) + 1)::int for 32)
        from unnest(
          ${own.map(({ seq }) => String(seq))}::bigint[], ${own.map(({ proxy }) => proxy)}::text[], ${own.map(({ boot }) => boot)}::text[],
          ${own.map(({ n }) => String(n))}::bigint[], ${own.map(({ at }) => new Date(at).toISOString())}::timestamptz[],
          ${own.map(({ record }) => record.kind)}::text[], ${own.map(({ record }) => facets(record).operation)}::text[],
          ${own.map(({ record }) => facets(record).actor)}::text[], ${own.map(({ body }) => body)}::text[]
        ) with ordinality as given (seq, proxy, boot, n, at, kind, operation, actor, body, place)
      ),
      opened as (
        insert into audit.open_operation (operation, proxy, boot, started, body)
        select operation, proxy, boot, at, body
        from moved join unnest(${[...ends.opened]}::text[]) as begun (operation) using (operation)
        where kind = 'operation.start'
        -- A proxy of an earlier version has put it there itself.
        on conflict do nothing
      ),
      closed as (
        -- Not a join: the planner may take this table for an empty one, and would compare each end with every operation.
        delete from audit.open_operation where operation = any (${[...ends.closed]}::text[])
      ),
      grown as (
        insert into audit.subtree (level, place, hash)
        select level, place, substring(${subtreeHashes}::bytea from (32 * (ordinal - 1) + 1)::int for 32)
        from unnest(${subtrees.map(({ level }) => level)}::smallint[], ${subtrees.map(({ place }) => String(place))}::bigint[])
          with ordinality as given (level, place, ordinal)
        on conflict (level, place) do update set hash = excluded.hash
      ),
      dropped as (
        delete from audit.inbox where arrival = any(${[...dropped]}::bigint[])
      ),
      advanced as (
        insert into audit.source (proxy, boot, last)
        select * from unnest(
          ${advanced.map(({ proxy }) => proxy)}::text[], ${advanced.map(({ boot }) => boot)}::text[],
          ${advanced.map(({ last }) => String(last))}::bigint[])
        on conflict (proxy, boot) do update set last = greatest(source.last, excluded.last)
      )
      -- A division by zero is the one way for a statement to undo itself.
      select
        set_config('synchronous_commit', 'on', true),
        1 / ((select count(*) from extended) = 1 and (select count(*) from inserted) = ${placed.length})::int as whole`
  } catch (cause) {
    if (Reflect.get(cause as object, 'code') !== DIVISION_BY_ZERO) throw cause
    throw new ChainMoved(
      `the chain does not end at record ${from.seq} any more, or records left the inbox without the ledger`,
    )
  }
}

/** Keeps a copy of a head beside the records, for the console and the API. */
export async function storeHead(sql: Sql, head: Head): Promise<void> {
  await sql`
    insert into audit.head (seq, hash, root, time, key, signature)
    values (${head.seq}, ${Buffer.from(head.hash, 'hex')}, ${Buffer.from(head.root, 'hex')}, ${head.time}, ${head.key},
      ${Buffer.from(head.signature, 'base64')})
    on conflict (seq) do nothing`
}

/** Heads as the database has them, oldest first. They prove nothing against the database's owner. */
export async function storedHeads(sql: Sql, after = 0, limit = 10_000): Promise<Head[]> {
  const rows = await sql<{ seq: string; hash: Buffer; root: Buffer; time: Date; key: string; signature: Buffer }[]>`
    select seq, hash, root, time, key, signature from audit.head where seq > ${after} order by seq limit ${limit}`
  return rows.map(headOf)
}

/** The first head in the database over at least so many records. */
export async function storedHeadOver(sql: Sql, seq: number): Promise<Head | undefined> {
  const [head] = await storedHeads(sql, seq - 1, 1)
  return head
}

/** The last head in the database that this key signed. */
export async function lastStoredHead(sql: Sql, key: HeadKey): Promise<Head | undefined> {
  const rows = await sql<{ seq: string; hash: Buffer; root: Buffer; time: Date; key: string; signature: Buffer }[]>`
    select seq, hash, root, time, key, signature from audit.head where key = ${key.id} order by seq desc limit 1`
  return rows.map(headOf).find(head => verifyHead(head, [key.publicKey]))
}

function headOf(row: { seq: string; hash: Buffer; root: Buffer; time: Date; key: string; signature: Buffer }): Head {
  return {
    seq: Number(row.seq),
    hash: row.hash.toString('hex'),
    root: row.root.toString('hex'),
    time: row.time.toISOString(),
    key: row.key,
    signature: row.signature.toString('base64'),
  }
}

/** Signs the end of the chain as it is now. */
export function headOfChain(key: HeadKey, { seq, hash, tree }: ChainEnd, now: number): Head {
  const root = tree.root().toString('hex')
  return signHead(key, { seq, hash: hash.toString('hex'), root, time: new Date(now).toISOString() })
}
