-- Records are JSON, so that fields can be added without a migration and `sqlite3` can read them.
-- The other columns are what is searched for. Times are nanoseconds since 1970.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    create_time INTEGER NOT NULL,
    -- Not known when the record is made: the newest event about the container.
    last_event INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE deleted (
    id TEXT PRIMARY KEY,
    delete_time INTEGER NOT NULL,
    last_event INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX deleted_by_time ON deleted (delete_time);

-- Ends of runs, of live and of deleted containers.
CREATE TABLE runs (
    container_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (container_id, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    create_time INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    request_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    container_id TEXT,
    answer BLOB,
    PRIMARY KEY (principal, method, key)
) STRICT;
CREATE INDEX idempotency_by_time ON idempotency (time);

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    type TEXT NOT NULL,
    container_id TEXT,
    request_id TEXT,
    image TEXT,
    -- Running total of the journal's size.
    end_bytes INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_container ON events (container_id) WHERE container_id IS NOT NULL;
CREATE INDEX events_by_request ON events (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX events_by_time ON events (time);

-- One row: what is gone of the journal, since no row of `events` may be left to tell.
CREATE TABLE journal (
    -- The sequence before the oldest event there is.
    oldest INTEGER NOT NULL,
    -- When the latest of the events that are gone was; 0 if none is.
    lost INTEGER NOT NULL
) STRICT;
INSERT INTO journal (oldest, lost) VALUES (0, 0);
