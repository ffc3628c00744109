-- What was announced under which key, so that a request that comes again is answered with what the first did. The previous version of the
-- node keeps no keys.
CREATE TABLE announcement_keys (
    key      uuid   PRIMARY KEY,   -- of the key within its sender
    id       uuid   NOT NULL,      -- the announcement as it was, which may be over by now
    sender   text   NOT NULL,
    body     text   NOT NULL,
    time_ms  bigint NOT NULL,
    until_ms bigint
);
