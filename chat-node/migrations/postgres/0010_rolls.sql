-- Who is present, as each node's run tells it, for nodes that the bus does not reach. Unlogged, since it is rewritten every second: no
-- commit waits for a disk or a standby, and nothing is lost by it, because each node begins anew when it finds its row gone, as after a
-- crash or a failover of the database. The previous version of the node tells the bus alone.
CREATE UNLOGGED TABLE rolls (
    run     text   PRIMARY KEY,    -- of a node, as the bus names it
    number  bigint NOT NULL,       -- of its latest message
    beat_ms bigint NOT NULL        -- its latest sign of life, by the clock of the database
);

CREATE UNLOGGED TABLE roll_messages (
    run     text   NOT NULL,
    number  bigint NOT NULL,
    message text   NOT NULL,       -- as on the bus: everybody at first, and what changed from then on
    PRIMARY KEY (run, number)
);
