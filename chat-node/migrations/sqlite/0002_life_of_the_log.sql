-- What happens to messages and members after they are there. Only additions: the previous version inserts without them.

ALTER TABLE events ADD COLUMN details text;          -- JSON; what an event tells beside its text

ALTER TABLE rooms ADD COLUMN topic text;
ALTER TABLE rooms ADD COLUMN title text;             -- the name of a private room, which need not be unique

ALTER TABLE members ADD COLUMN role integer NOT NULL DEFAULT 1;          -- 1 member, 2 moderator, 3 owner
ALTER TABLE members ADD COLUMN joined_ms integer NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN muted_until_ms integer NOT NULL DEFAULT 0;  -- of the sanction, where every send can see it
ALTER TABLE members ADD COLUMN read_seq integer NOT NULL DEFAULT 0;

-- Whoever made a public room owns it.
UPDATE members SET role = 3 WHERE EXISTS (
    SELECT 1 FROM events JOIN rooms ON rooms.id = events.room
    WHERE events.room = members.room AND events.kind = 2 AND events.sender = members.member AND rooms.kind = 1
);

-- Bans and mutes outlive a membership, so that leaving and joining lifts neither.
CREATE TABLE sanctions (
    room            blob    NOT NULL REFERENCES rooms,
    member          text    NOT NULL,
    banned_until_ms integer NOT NULL DEFAULT 0,
    muted_until_ms  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (room, member)
) WITHOUT ROWID;

CREATE TABLE reactions (
    room            blob    NOT NULL,
    seq             integer NOT NULL,
    reaction        text    NOT NULL,
    member          text    NOT NULL,
    PRIMARY KEY (room, seq, reaction, member)
) WITHOUT ROWID;

CREATE TABLE mentions (
    member          text    NOT NULL,
    room            blob    NOT NULL,
    seq             integer NOT NULL,
    PRIMARY KEY (member, room, seq)
) WITHOUT ROWID;

ALTER TABLE users ADD COLUMN last_seen_ms integer;
