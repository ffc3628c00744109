-- Room logs, as in PostgreSQL. Later migrations only add.

CREATE TABLE users (
    name          text   PRIMARY KEY,
    password_hash text,            -- absent for users whose tokens another issuer signs
    created_ms    integer NOT NULL
);

CREATE TABLE rooms (
    id         blob     PRIMARY KEY,
    kind       integer NOT NULL,  -- 1 public, 2 direct
    name       text     UNIQUE,    -- of a public room
    first      text,               -- the two people of a direct room
    second     text,
    direct_key text     UNIQUE,    -- names the two whoever asks
    epoch      integer  NOT NULL DEFAULT 1,
    head       integer   NOT NULL DEFAULT 0,
    members    integer  NOT NULL DEFAULT 0,
    created_ms integer   NOT NULL
);

CREATE TABLE members (
    member text NOT NULL,
    room   blob NOT NULL REFERENCES rooms,
    PRIMARY KEY (member, room)
) WITHOUT ROWID;
CREATE INDEX members_room ON members (room);

-- The log. (room, seq) has no holes: heads are advanced in the transaction that inserts.
CREATE TABLE events (
    room    blob     NOT NULL,
    seq     integer   NOT NULL,
    epoch   integer  NOT NULL,
    id      blob     NOT NULL,
    kind    integer NOT NULL,     -- 1 message, 2 created, 3 joined, 4 left
    sender  text     NOT NULL,
    time_ms integer   NOT NULL,
    body    text,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;

-- Outboxes and their latest results outlive the history, so that a repeated send is known for as long as clients repeat.
CREATE TABLE outboxes (
    key        blob   PRIMARY KEY, -- made from the owner and the client's id
    last       integer NOT NULL,
    touched_ms integer NOT NULL
);

CREATE TABLE outbox_results (
    outbox  blob    NOT NULL,
    n       integer  NOT NULL,
    refusal text,                  -- or the event:
    room    blob,
    epoch   integer,
    seq     integer,
    event   blob,
    time_ms integer,
    PRIMARY KEY (outbox, n)
) WITHOUT ROWID;
