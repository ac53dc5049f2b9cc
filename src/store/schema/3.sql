-- Matches of content rules, and responses that cost no tokens because they came from the response cache.
alter table exchange add column marks text not null default '';
alter table exchange add column from_cache integer not null default 0;

-- One row for each match: the rule, where it was, what followed, and a keyed hash of its text. count: of the same text in one request.
create table finding (
    journal integer not null, position integer not null, number integer not null,
    at_ms integer not null, rule integer not null, place text not null, action text not null,
    hash text not null, count integer not null,
    primary key (journal, position, number)
) without rowid;
create index finding_at on finding (at_ms);
