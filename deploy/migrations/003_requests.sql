-- Who asked for which window, and what was said to it. The windows of an approved request are its rows in control.grant, which
-- alone say how they ended; `content` holds the rest: what was asked, on which terms, and the votes.
create table control.request (
  id text primary key,
  state text not null check (state in ('requested', 'approved', 'denied', 'withdrawn', 'lapsed')),
  principal text not null,
  requester text not null,
  -- The person behind the requester, whatever account was used; quotas are counted by it.
  person text not null,
  repository text not null,
  -- Two pending requests with one key are the same request.
  dedupe text not null,
  made timestamptz not null,
  lapses timestamptz not null,
  content jsonb not null
);
create unique index on control.request (dedupe) where state = 'requested';
create index on control.request (lapses) where state = 'requested';
create index on control.request (principal, id);
create index on control.request (requester, id);
create index on control.request (person, made);
create index on control.grant (request) where request is not null;
