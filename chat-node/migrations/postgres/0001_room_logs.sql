-- Room logs. Later migrations only add: the previous version of the node runs beside the next one during a rollout.

CREATE TABLE users (
    name          text   PRIMARY KEY,
    password_hash text,            -- absent for users whose tokens another issuer signs
    created_ms    bigint NOT NULL
);

CREATE TABLE rooms (
    id         uuid     PRIMARY KEY,
    kind       smallint NOT NULL,  -- 1 public, 2 direct
    name       text     UNIQUE,    -- of a public room
    first      text,               -- the two people of a direct room
    second     text,
    direct_key text     UNIQUE,    -- names the two whoever asks
    epoch      integer  NOT NULL DEFAULT 1,
    head       bigint   NOT NULL DEFAULT 0,
    members    integer  NOT NULL DEFAULT 0,
    created_ms bigint   NOT NULL
);

CREATE TABLE members (
    member text NOT NULL,
    room   uuid NOT NULL REFERENCES rooms,
    PRIMARY KEY (member, room)
);
CREATE INDEX members_room ON members (room);

-- The log. (room, seq) has no holes: heads are advanced in the transaction that inserts.
CREATE TABLE events (
    room    uuid     NOT NULL,
    seq     bigint   NOT NULL,
    epoch   integer  NOT NULL,
    id      uuid     NOT NULL,
    kind    smallint NOT NULL,     -- 1 message, 2 created, 3 joined, 4 left
    sender  text     NOT NULL,
    time_ms bigint   NOT NULL,
    body    text,
    PRIMARY KEY (room, seq)
);

-- Outboxes and their latest results outlive the history, so that a repeated send is known for as long as clients repeat.
CREATE TABLE outboxes (
    key        uuid   PRIMARY KEY, -- made from the owner and the client's id
    last       bigint NOT NULL,
    touched_ms bigint NOT NULL
);

CREATE TABLE outbox_results (
    outbox  uuid    NOT NULL,
    n       bigint  NOT NULL,
    refusal text,                  -- or the event:
    room    uuid,
    epoch   integer,
    seq     bigint,
    event   uuid,
    time_ms bigint,
    PRIMARY KEY (outbox, n)
);
