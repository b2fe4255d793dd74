-- Service accounts: what has no person at it and no identity of its own, each with a person who answers for it.

create table control.service (
  -- Its principal is `service:` and this. Never given twice, so that nothing of an old account falls to a new one.
  name text primary key,
  owner text not null,
  created timestamptz not null default now(),
  created_by text not null,
  ended timestamptz,
  ended_by text,
  ended_reason text,
  check ((ended is null) = (ended_by is null))
);
create index on control.service (owner) where ended is null;

-- A token that was rotated ends when its overlap does: its row then says an earlier end than the token itself.
alter table control.token add column service text references control.service (name);
create index on control.token (service, created) where service is not null;

-- From when a credential is refused; null: at once.
alter table control.bar add column begins timestamptz;

-- Locked because this owner was: lifted when theirs is.
alter table control.lock add column through text;
