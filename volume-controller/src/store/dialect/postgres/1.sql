CREATE TABLE schema_version (
    version BIGINT NOT NULL
);

-- One row: the counter that every commit takes its revisions from, and the
-- revision up to which the change log is compacted. Whoever writes locks it first,
-- so commits happen in the order of their revisions.
CREATE TABLE revision (
    one SMALLINT PRIMARY KEY CHECK (one = 1),
    current BIGINT NOT NULL,
    compacted BIGINT NOT NULL CHECK (compacted <= current),
    -- The token of the commit that set `current`.
    token BIGINT NOT NULL,
    -- The process that must be alone, by a random number; 0 for none yet.
    owner BIGINT NOT NULL
) WITH (fillfactor = 10);

-- Append-only but for compaction. A body is stored once, here: the row of the
-- latest change of a living object stays for as long as the object does not change.
-- Names are compared by bytes, so that no update of the system's collations spoils an index.
CREATE TABLE change (
    revision BIGINT PRIMARY KEY,
    kind SMALLINT NOT NULL CHECK (kind IN (0, 1, 2)),
    previous BIGINT,
    committed TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- A random number of the commit that wrote it: by this a process that lost its
    -- connection during COMMIT knows its own work.
    token BIGINT NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL
);

-- What exists, and the change that made it as it is.
CREATE TABLE object (
    resource TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) WITH (fillfactor = 80);

INSERT INTO schema_version (version) VALUES (1);

-- Revision 0 means "any" to Kubernetes' clients, so no list may be true at 0.
INSERT INTO revision (one, current, compacted, token, owner) VALUES (1, 1, 1, 0, 0);
