-- Where and when a grant holds besides its window: {"networks": [[cidr, …], …], "hours": [{"zone": …, "spans": […]}, …]}.
alter table control.grant add column bounds jsonb;
