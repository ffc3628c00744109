-- The directory in the order of the names' bytes, whatever the collation of the database: where a prefix begins can be found in it, which
-- the index of the collation does not allow. Not touched by a new event. The previous version reads in the other index, as before.
CREATE INDEX rooms_directory ON rooms (name COLLATE "C") WHERE name IS NOT NULL;
