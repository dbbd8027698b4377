-- Another number after each restore from a backup, by which those who know the store see that it went back in time.
ALTER TABLE revision ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0;

UPDATE schema_version SET version = 2;
