-- The ledger in parts that can be taken out whole, with what its proofs and its readers need.

-- Roots of the perfect subtrees of the Merkle tree with 2^8 leaves and more: subtree (level, place) is over the records
-- place * 2^level + 1 to (place + 1) * 2^level. A proof is then a few rows, however long the ledger is. A cache: what is missing is
-- computed from the records, and what is wrong gives a proof that does not lead to a signed head.
create table audit.subtree (
  level smallint not null,
  place bigint not null,
  hash bytea not null,
  primary key (level, place)
);

-- Records lie in partitions by sequence number. There is one open at its end; retention closes it from time to time, and drops the
-- oldest ones once they are exported. No two records of one partition bear the same number of the same run; across partitions
-- audit.source sees to that.
alter table audit.record rename to record_from_1;
create table audit.record (like audit.record_from_1) partition by range (seq);
alter table audit.record add primary key (seq);
alter table audit.record attach partition audit.record_from_1 for values from (minvalue) to (maxvalue);

-- Each finds its equal on the partition that is there, and is made on those to come.
create index on audit.record (recorded, seq);
create index on audit.record (kind, seq);
create index on audit.record (operation, seq) where operation is not null;
create index on audit.record (principal, seq) where principal is not null;
create index on audit.record (actor, seq) where actor is not null;
create index on audit.record (repository, seq) where repository is not null;
create index on audit.record (action, seq) where action is not null;
create index on audit.record (result, seq) where result is not null;
create index on audit.record using gin (grants) with (fastupdate = off) where grants is not null;
create index on audit.record using gin (refs) with (fastupdate = off) where refs is not null;

-- Up to where records were exported and dropped; body is a signed boundary as JSON (audit/boundary.ts). The newest counts.
create table audit.boundary (
  seq bigint primary key,
  body text not null
);

-- How far those have come that are told of each record: forwarders, the detectors of anomalies. What lies after seq up to sending is
-- being sent, and is sent again as the same piece after a crash. state is what the reader remembers at seq.
create table audit.reader (
  name text primary key,
  seq bigint not null,
  sending bigint,
  state text,
  updated timestamptz not null default now()
);
