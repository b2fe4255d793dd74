-- The control plane's word: what was granted, revoked, locked and registered. Redis holds what is live of it and can be made anew
-- from here at any time. Every change, the record of it and the order to carry it out (outbox) are one commit.
create schema control;

-- The number of the last record the control plane wrote. Locked by each act, so that its numbers have no gap.
create table control.record_number (
  singleton boolean primary key default true check (singleton),
  last bigint not null
);
insert into control.record_number (last) values (0);

-- Times of windows are Redis's clock, by which they are judged.
create table control.grant (
  id text primary key,
  principal text not null,
  repository text not null,
  actions text[] not null,
  refs text[] not null,
  starts timestamptz not null,
  expires timestamptz not null,
  idle_ms bigint,
  uses integer,
  reason text not null,
  request text,
  issued timestamptz not null default now(),
  issued_by text not null,
  -- Copies of what Redis counts, for when Redis has lost it.
  last_used timestamptz,
  uses_left integer,
  ended timestamptz,
  ended_how text check (ended_how in ('expired', 'revoked', 'released', 'idle', 'used', 'locked')),
  ended_by text,
  ended_reason text,
  check (starts < expires),
  check ((ended is null) = (ended_how is null))
);
create index on control.grant (principal, id);
create index on control.grant (expires) where ended is null;
create index on control.grant (expires) where ended is not null;

-- A row stays when the lock is lifted: its version tells Redis which word is the later one.
create table control.lock (
  principal text primary key,
  locked boolean not null,
  version bigint not null,
  reason text not null,
  changed timestamptz not null default now(),
  changed_by text not null
);

-- Tokens by their id; the token itself is nowhere.
create table control.token (
  id text primary key,
  principal text not null,
  roles text[] not null,
  created timestamptz not null default now(),
  created_by text not null,
  expires timestamptz not null,
  revoked timestamptz,
  revoked_by text
);
create index on control.token (principal, id);

create table control.key (
  fingerprint text primary key,
  principal text not null,
  algorithm text not null,
  public_key text not null,
  title text not null,
  created timestamptz not null default now(),
  created_by text not null,
  expires timestamptz not null,
  revoked timestamptz,
  revoked_by text
);
create index on control.key (principal, fingerprint);

-- Credentials that are refused although they would still be good: token:<id>, key:<fingerprint>, serial:<n>.
create table control.bar (
  principal text not null,
  credential text not null,
  reason text not null,
  expires timestamptz,
  barred timestamptz not null default now(),
  primary key (principal, credential)
);

-- What Redis has yet to be told: only what to look up, so that the latest word is what it is told.
create table control.outbox (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('grant', 'lock', 'bar', 'key')),
  -- grant: its id; lock: the principal; bar: principal and credential; key: its fingerprint
  subject text[] not null,
  since timestamptz not null default now()
);
