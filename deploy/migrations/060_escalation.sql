-- When others are asked as well because nobody has answered; null once they were, and where there are none.
alter table control.request add column escalates timestamptz;
update control.request
set escalates = made + make_interval(secs => (content #>> '{conditions,escalation,after}')::float8 / 1000)
where state = 'requested' and content #> '{conditions,escalation}' is not null;
create index on control.request (escalates) where state = 'requested' and escalates is not null;
