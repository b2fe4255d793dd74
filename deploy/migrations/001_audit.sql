-- The ledger. Proxies put records into the inbox; the ledger writer numbers and links them and moves them to record.
create schema audit;

-- Where a record waits between being durable and being part of the chain. The columns beside body repeat
-- what is in it, for the indexes of audit.record; body is the canonical JSON that is hashed.
create table audit.inbox (
  arrival bigint generated always as identity primary key,
  proxy text not null,
  boot text not null,
  n bigint not null,
  at timestamptz not null,
  kind text not null,
  operation text,
  principal text,
  actor text,
  repository text,
  action text,
  result text,
  grants text[],
  refs text[],
  body text not null,
  unique (proxy, boot, n)
);

create table audit.record (
  seq bigint primary key,
  recorded timestamptz not null,
  proxy text not null,
  boot text not null,
  n bigint not null,
  at timestamptz not null,
  kind text not null,
  operation text,
  principal text,
  actor text,
  repository text,
  action text,
  result text,
  grants text[],
  refs text[],
  body text not null,
  hash bytea not null,
  unique (proxy, boot, n)
);

create index on audit.record (recorded, seq);
create index on audit.record (kind, seq);
create index on audit.record (operation, seq) where operation is not null;
create index on audit.record (principal, seq) where principal is not null;
create index on audit.record (actor, seq) where actor is not null;
create index on audit.record (repository, seq) where repository is not null;
create index on audit.record (action, seq) where action is not null;
create index on audit.record (result, seq) where result is not null;
-- Without fastupdate: its list of pending entries is read through by every search, 40 ms of a 50 ms budget when full.
create index on audit.record using gin (grants) with (fastupdate = off) where grants is not null;
create index on audit.record using gin (refs) with (fastupdate = off) where refs is not null;

-- How far each run of each proxy has come: the last of its own numbers that is in the chain.
create table audit.source (
  proxy text not null,
  boot text not null,
  last bigint not null,
  primary key (proxy, boot)
);

-- Operations that have a start and no end yet. Written and deleted in the transactions of those records.
create table audit.open_operation (
  operation text primary key,
  proxy text not null,
  boot text not null,
  started timestamptz not null,
  body text not null
);
create index on audit.open_operation (proxy, boot);

-- The end of the chain: one row, locked by whoever appends. peaks are the roots of the perfect subtrees
-- of the Merkle tree so far, 32 bytes each, largest first.
create table audit.chain (
  singleton boolean primary key default true check (singleton),
  seq bigint not null,
  hash bytea not null,
  recorded timestamptz not null,
  peaks bytea not null
);
insert into audit.chain (seq, hash, recorded, peaks) values (0, decode(repeat('00', 32), 'hex'), to_timestamp(0), '');

-- Signed heads, as published outside this database. Copies for convenience: never the proof.
create table audit.head (
  seq bigint primary key,
  hash bytea not null,
  root bytea not null,
  time timestamptz not null,
  key text not null,
  signature bytea not null
);

-- The inbox is a queue: its dead rows lie where the next read begins, so they are cleaned up early.
alter table audit.inbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
