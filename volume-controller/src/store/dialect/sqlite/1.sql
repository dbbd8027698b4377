CREATE TABLE schema_version (
    version INTEGER NOT NULL
) STRICT;

-- One row: the counter that every commit takes its revisions from, and the
-- revision up to which the change log is compacted.
CREATE TABLE revision (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    current INTEGER NOT NULL,
    compacted INTEGER NOT NULL CHECK (compacted <= current)
) STRICT;

-- Append-only but for compaction. A body is stored once, here: the row of the
-- latest change of a living object stays for as long as the object does not change.
CREATE TABLE change (
    revision INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL CHECK (kind IN (0, 1, 2)),
    previous INTEGER,
    committed INTEGER NOT NULL DEFAULT (unixepoch()),
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- What exists, and the change that made it as it is.
CREATE TABLE object (
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) STRICT, WITHOUT ROWID;

INSERT INTO schema_version (version) VALUES (1);

-- Revision 0 means "any" to Kubernetes' clients, so no list may be true at 0.
INSERT INTO revision (one, current, compacted) VALUES (1, 1, 1);

-- "Hold", in ASCII.
PRAGMA application_id = 1215261796;
