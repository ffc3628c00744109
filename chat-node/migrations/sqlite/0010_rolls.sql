-- Who is present, as each node's run tells it, for nodes that the bus does not reach. On SQLite there is one node, which writes nothing
-- here: the tables are those of PostgreSQL, so that both stores keep the same promises. The previous version of the node tells the bus
-- alone.
CREATE TABLE rolls (
    run     text   PRIMARY KEY,    -- of a node, as the bus names it
    number  bigint NOT NULL,       -- of its latest message
    beat_ms bigint NOT NULL        -- its latest sign of life, by the clock of the database
);

CREATE TABLE roll_messages (
    run     text   NOT NULL,
    number  bigint NOT NULL,
    message text   NOT NULL,       -- as on the bus: everybody at first, and what changed from then on
    PRIMARY KEY (run, number)
);
