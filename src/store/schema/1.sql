-- Names of keys, teams, models, backends, APIs and faults, each once. Id 0 is "there is none".
create table name (id integer primary key, text text not null unique);
insert into name (id, text) values (0, '');

-- How far each journal has been moved here.
create table journal (id integer primary key, name text not null unique, position integer not null);

-- Settled exchanges. Names are ids of `name`; times are Unix milliseconds, durations microseconds.
-- usage: 0 not known, 1 the backend's count, 2 our estimate.
-- A record always has the same time, so the order of reports is the key, and no other index has to be written.
create table exchange (
    journal integer not null, position integer not null,
    at_ms integer not null, request_id text not null,
    key integer not null, team integer not null, user integer not null,
    model integer not null, fallback_for integer not null, backend integer not null,
    api integer not null, fault integer not null, status integer not null,
    stream integer not null, attempts integer not null, usage integer not null,
    input_tokens integer not null, cached_tokens integer not null,
    output_tokens integer not null, reasoning_tokens integer not null,
    request_bytes integer not null, response_bytes integer not null,
    duration_us integer not null, first_token_us integer, overhead_us integer not null,
    primary key (at_ms, journal, position)
) without rowid;

-- Their sums by hour (hours since 1970), kept when the exchanges are deleted.
create table hour (
    hour integer not null,
    key integer not null, team integer not null, user integer not null,
    model integer not null, backend integer not null, api integer not null,
    requests integer not null, failures integer not null, estimated integer not null, uncounted integer not null,
    input_tokens integer not null, cached_tokens integer not null,
    output_tokens integer not null, reasoning_tokens integer not null,
    primary key (hour, key, team, user, model, backend, api)
) without rowid;

-- What operators did and what policies refused. hash covers the entry and the hash before it.
create table audit (
    sequence integer primary key, at_ms integer not null,
    actor text not null, origin text not null, action text not null, subject text not null,
    before text not null, after text not null, hash blob not null
);
