-- What administrators tell everybody who is online. Only what is in force is here; the previous version of the node tells nobody.
CREATE TABLE announcements (
    id       uuid   PRIMARY KEY,   -- in the order of time
    sender   text   NOT NULL,
    body     text   NOT NULL,
    time_ms  bigint NOT NULL,
    until_ms bigint                -- over by itself from then on; absent: when somebody ends it
);
