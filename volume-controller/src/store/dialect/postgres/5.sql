-- What exists follows from the log: every change but a deletion that no later one names as its previous.
DROP TABLE object;

UPDATE schema_version SET version = 5;
