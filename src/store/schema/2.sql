-- Input written to a backend's cache has a price of its own.
alter table exchange add column cache_write_tokens integer not null default 0;
alter table hour add column cache_write_tokens integer not null default 0;
