-- Sends that were perhaps acknowledged and could not be written, as in PostgreSQL.
CREATE TABLE dead_letters (
    id      blob PRIMARY KEY,
    reason  text NOT NULL,
    payload text NOT NULL,
    buried  text NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
