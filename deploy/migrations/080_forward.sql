-- How those fare that are told of each record: when they last had one; since when, and why, they do not go on.
alter table audit.reader
  add column succeeded timestamptz,
  add column failing timestamptz,
  add column fault text,
  add check ((failing is null) = (fault is null));
