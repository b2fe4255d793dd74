-- The provider is asked again whether somebody who is signed in is still there.

alter table control.signin
  -- What it is asked with, encrypted by a key that is not in the database; null: it is not asked.
  add column refresh text,
  add column asked timestamptz not null default now();
create index on control.signin (asked) where refresh is not null and ended is null;
