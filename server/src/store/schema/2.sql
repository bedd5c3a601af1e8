-- Further processes of containers. They go with their container.
CREATE TABLE execs (
    id TEXT PRIMARY KEY,
    container_id TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX execs_by_container ON execs (container_id);
