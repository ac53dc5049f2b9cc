-- Teams, keys and admin tokens that were created while the gateway ran. kind: 1 team, 2 key, 3 admin token. body: JSON, the members of
-- the table of the same kind in the configuration, without a secret. Times are Unix milliseconds.
create table access (
    kind integer not null, name text not null, public_id text not null, body text not null,
    created_ms integer not null, changed_ms integer not null, revoked_ms integer,
    primary key (kind, name)
) without rowid;

-- SHA-256 of their secrets; valid_until_ms: the end of one that was replaced.
create table secret (
    digest blob primary key, kind integer not null, name text not null,
    created_ms integer not null, valid_until_ms integer
) without rowid;
create index secret_of on secret (kind, name);

-- Grows with every change of the two.
create table revision (id integer primary key check (id = 1), value integer not null);
insert into revision values (1, 0);
