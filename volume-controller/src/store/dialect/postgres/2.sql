-- Which store this is, so that a database that was emptied, and another root's, are told from the one that
-- belongs to a root folder.
ALTER TABLE revision ADD COLUMN store UUID NOT NULL DEFAULT gen_random_uuid();

UPDATE schema_version SET version = 2;
