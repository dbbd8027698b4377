-- What exists follows from the log: every change but a deletion that no later one names as its previous. So does the
-- latest revision. A commit is one row, on one page.
ALTER TABLE revision RENAME TO former;

CREATE TABLE revision (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    compacted INTEGER NOT NULL,
    incarnation INTEGER NOT NULL
) STRICT;

-- A counter that does not fit the log is refused, by NOT NULL.
INSERT INTO revision (one, compacted, incarnation)
SELECT one, iif(current = max(compacted, (SELECT coalesce(max(revision), 0) FROM change)), compacted, NULL), incarnation
FROM former;

DROP TABLE former;
DROP TABLE object;

UPDATE schema_version SET version = 3;
