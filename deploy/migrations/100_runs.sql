-- What Git hosts said began and was over. A run opens at most once, whatever is sent again and in whatever order.
create table control.run (
  hook text not null,
  -- The host's own number, the same when it begins and when it is over.
  run text not null,
  kind text not null check (kind in ('merge', 'deployment', 'pipeline', 'job')),
  repository text not null,
  commit text,
  name text,
  -- The pipeline of a job.
  pipeline text,
  -- Of a merge: the pipeline that ends it; any, where there is none.
  until text,
  -- What it opened.
  request text,
  at timestamptz not null,
  ended timestamptz,
  primary key (hook, run)
);
create index on control.run (hook, repository);
create index on control.run (hook, pipeline) where ended is null;
create index on control.run (at);
