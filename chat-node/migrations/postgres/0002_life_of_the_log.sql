-- What happens to messages and members after they are there. Only additions: the previous version inserts without them.

ALTER TABLE events ADD COLUMN details text;          -- JSON; what an event tells beside its text

ALTER TABLE rooms ADD COLUMN topic text;
ALTER TABLE rooms ADD COLUMN title text;             -- the name of a private room, which need not be unique

ALTER TABLE members ADD COLUMN role smallint NOT NULL DEFAULT 1;          -- 1 member, 2 moderator, 3 owner
ALTER TABLE members ADD COLUMN joined_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN muted_until_ms bigint NOT NULL DEFAULT 0;  -- of the sanction, where every send can see it
ALTER TABLE members ADD COLUMN read_seq bigint NOT NULL DEFAULT 0;

-- Whoever made a public room owns it.
UPDATE members SET role = 3 FROM events, rooms
WHERE events.room = members.room AND events.kind = 2 AND events.sender = members.member
  AND rooms.id = members.room AND rooms.kind = 1;

-- Bans and mutes outlive a membership, so that leaving and joining lifts neither.
CREATE TABLE sanctions (
    room            uuid   NOT NULL REFERENCES rooms,
    member          text   NOT NULL,
    banned_until_ms bigint NOT NULL DEFAULT 0,
    muted_until_ms  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (room, member)
);

CREATE TABLE reactions (
    room     uuid   NOT NULL,
    seq      bigint NOT NULL,
    reaction text   NOT NULL,
    member   text   NOT NULL,
    PRIMARY KEY (room, seq, reaction, member)
);

CREATE TABLE mentions (
    member text   NOT NULL,
    room   uuid   NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (member, room, seq)
);

ALTER TABLE users ADD COLUMN last_seen_ms bigint;
