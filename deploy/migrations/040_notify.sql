-- What is told to people and programs. A notice is written in the commit of the fact it tells of; whom it goes to is worked out
-- afterwards, one delivery for each channel and recipient, and each delivery is tried until it arrives or is given up.
create table control.notice (
  id bigint generated always as identity primary key,
  event text not null,
  -- What it belongs to: a request, a grant nobody asked for, a principal. Within one thread the order holds.
  thread text not null,
  at timestamptz not null,
  content jsonb not null,
  -- Of what is told once: which ending, which escalation.
  once text unique,
  spread boolean not null default false
);
create index on control.notice (id) where not spread;
create index on control.notice (at) where spread;

create table control.delivery (
  -- The same on every attempt; receivers tell a repeated one by it.
  id text primary key,
  notice bigint not null references control.notice on delete cascade,
  channel text not null,
  -- Who on that channel: an address, a user, or nothing where the channel is one place.
  recipient text not null default '',
  person text,
  thread text not null,
  state text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead')),
  due timestamptz not null,
  -- When it was first due, or was asked for again: from then on it is tried for so long and no longer.
  since timestamptz not null,
  attempts integer not null default 0,
  -- What the channel calls what it was given.
  reference text,
  fault text,
  done timestamptz,
  unique (notice, channel, recipient)
);
create index on control.delivery (channel, due) where state = 'waiting';
create index on control.delivery (channel, recipient, thread, notice);
create index on control.delivery (done) where state = 'dead';

-- One-time links that were used: the other half of "single use". Rows go when the link would have ended by itself.
create table control.link_used (
  id text primary key,
  used timestamptz not null default now(),
  expires timestamptz not null
);
