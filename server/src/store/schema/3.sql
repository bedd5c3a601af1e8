-- Who is gone is looked for by name, too. Of a record that says none there is none to be found.
ALTER TABLE deleted ADD COLUMN name TEXT;
UPDATE deleted SET name = json_extract(record, '$.name');
CREATE INDEX deleted_by_name ON deleted (name);
