-- Whose controllers run, of several servers: a random number that changes whenever others take over; 0 for nobody's yet.
ALTER TABLE revision ADD COLUMN leader BIGINT NOT NULL DEFAULT 0;

-- By which keys the servers of this store know one another: a fingerprint for each file of a root.
CREATE TABLE credential (
    file TEXT COLLATE "C" PRIMARY KEY,
    fingerprint TEXT NOT NULL
);

UPDATE schema_version SET version = 4;
