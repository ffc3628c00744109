-- Who is signed in where. A login is one sign-in on one device, or a bot's token; users see the former as a session. A login that is over is
-- not here any more.
CREATE TABLE logins (
    id          uuid   PRIMARY KEY,       -- in its access tokens
    member      text   NOT NULL,
    created_ms  bigint NOT NULL,
    seen_ms     bigint NOT NULL,
    expires_ms  bigint NOT NULL,          -- over by itself from then on
    client      text,                     -- what its latest hello said
    address     text,
    label       text,                     -- of a bot's token
    scopes      text,                     -- likewise
    selector    uuid   UNIQUE,            -- finds it by its refresh token; a bot's token has none
    secret_hash bytea,                    -- SHA-256 of the refresh token's secret
    former_hash bytea,                    -- of the one before
    salt        bytea,                    -- makes the present one of the one before
    rotated_ms  bigint NOT NULL DEFAULT 0
);
CREATE INDEX logins_member ON logins (member);
CREATE INDEX logins_expires ON logins (expires_ms);

ALTER TABLE users ADD COLUMN bot boolean NOT NULL DEFAULT false;

-- Wrong passwords, by what they are counted for: an account, an address, or the two together.
CREATE TABLE login_failures (
    subject text    PRIMARY KEY,
    count   integer NOT NULL,
    last_ms bigint  NOT NULL
);
CREATE INDEX login_failures_last ON login_failures (last_ms);
