-- What was said about a request: in a terminal, by the API, in a thread of a channel. It decides nothing.
create table control.comment (
  id text primary key,
  request text not null references control.request,
  at timestamptz not null,
  -- The principal, or the person whom a channel proved.
  by text not null,
  via text,
  -- By which channel it came, and as which message there: what comes again is the same comment.
  channel text,
  message text,
  content text not null,
  unique (channel, message)
);
create index on control.comment (request, id);

-- Of a reply: which thread it is in.
create index on control.delivery (channel, reference) where reference is not null;
