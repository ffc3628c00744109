-- Which database this is. When it comes back as another one, its history may have been set back, and every room begins a new epoch.
CREATE TABLE lineage (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single), -- one row
    system   text    NOT NULL,     -- pg_control_system().system_identifier
    timeline bigint  NOT NULL      -- changes at every promotion and at every recovery to a point in time
);
