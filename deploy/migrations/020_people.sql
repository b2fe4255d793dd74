-- Who people are: sign-ins by the identity provider, and what is under way towards one.

-- One sign-in of one person. Tokens, keys and certificates that were given out for it name it, and end with it.
create table control.signin (
  id text primary key,
  principal text not null,
  groups text[] not null,
  roles text[] not null,
  -- As the provider knows the person and its own session: what a logout token names.
  issuer text not null,
  subject text not null,
  session text,
  -- When a second factor was last shown; null: not that we know.
  mfa timestamptz,
  -- SHA-256 of what the terminal renews its tokens with; null: nobody holds one.
  secret bytea unique,
  address text not null,
  client text not null,
  made timestamptz not null default now(),
  expires timestamptz not null,
  ended timestamptz,
  ended_how text check (ended_how in ('logout', 'revoked', 'provider')),
  ended_by text,
  check ((ended is null) = (ended_how is null))
);
create index on control.signin (principal, id);
create index on control.signin (issuer, subject) where ended is null;

-- A terminal that waits for a person at a browser (after RFC 8628). Rows live for minutes.
create table control.login (
  id text primary key,
  -- SHA-256 of the device code, which only the terminal knows; the user code is for eyes.
  device bytea not null unique,
  code text not null unique,
  address text not null,
  client text not null,
  fresh boolean not null default false,
  -- A public key whose holder has proved possession of it to the gate: it will stand for whoever confirms.
  key_blob bytea,
  made timestamptz not null default now(),
  expires timestamptz not null,
  state text not null default 'waiting' check (state in ('waiting', 'recognised', 'confirmed', 'denied')),
  -- The browser that has it now: SHA-256 of its cookie, and what the answer of the provider is checked against.
  browser bytea,
  provider_state text,
  nonce text,
  verifier text,
  -- Whom the provider named; nothing yet until that person confirms.
  person jsonb,
  refusal text,
  signin text references control.signin (id)
);
create index on control.login (expires);
create index on control.login (address);

-- Logout tokens and tokens of CI jobs that were taken: none is taken twice.
create table control.seen (
  issuer text not null,
  jti text not null,
  expires timestamptz not null,
  primary key (issuer, jti)
);
create index on control.seen (expires);

-- A key that was bound by a sign-in ends with it, and may be bound again by the next.
alter table control.key add column signin text references control.signin (id);
create index on control.key (signin) where signin is not null;
