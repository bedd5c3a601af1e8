-- Who is gone is looked for by name, too, and all of them by id alone.
ALTER TABLE deleted ADD COLUMN name TEXT;
UPDATE deleted SET name = json_extract(record, '$.name');
CREATE INDEX deleted_by_name ON deleted (name);
DROP INDEX deleted_by_time;
CREATE INDEX deleted_by_time ON deleted (delete_time, id);
