-- Deliveries that wait to be told together: all of one channel and recipient that are due go out as one message.
alter table control.delivery add column digest boolean not null default false;
