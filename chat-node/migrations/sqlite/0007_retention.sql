-- Where a room's log begins, once its beginning was dropped. The previous version reads what is there, as it would read an empty page.

ALTER TABLE rooms ADD COLUMN first_seq bigint NOT NULL DEFAULT 1;
ALTER TABLE rooms ADD COLUMN oldest_ms bigint;       -- no event but the latest is older; absent while nothing was dropped: created_ms

-- Not touched by a new event, so appending stays as cheap as it was.
CREATE INDEX rooms_oldest ON rooms (COALESCE(oldest_ms, created_ms));
