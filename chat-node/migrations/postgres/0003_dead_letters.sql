-- Sends that were perhaps acknowledged and could not be written, for a person to look at.
CREATE TABLE dead_letters (
    id      uuid PRIMARY KEY,      -- made from the payload
    reason  text NOT NULL,
    payload text NOT NULL,         -- the send, in JSON
    buried  timestamptz NOT NULL DEFAULT now()
);
