-- Who is signed in where, as in PostgreSQL.
CREATE TABLE logins (
    id          blob    PRIMARY KEY,
    member      text    NOT NULL,
    created_ms  integer NOT NULL,
    seen_ms     integer NOT NULL,
    expires_ms  integer NOT NULL,
    client      text,
    address     text,
    label       text,
    scopes      text,
    selector    blob    UNIQUE,
    secret_hash blob,
    former_hash blob,
    salt        blob,
    rotated_ms  integer NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX logins_member ON logins (member);
CREATE INDEX logins_expires ON logins (expires_ms);

ALTER TABLE users ADD COLUMN bot boolean NOT NULL DEFAULT false;

CREATE TABLE login_failures (
    subject text    PRIMARY KEY,
    count   integer NOT NULL,
    last_ms integer NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_failures_last ON login_failures (last_ms);
