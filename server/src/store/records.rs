//! Writing changes, within the transaction of the writer.

use rusqlite::{Connection, params};

use super::transaction::{Change, IdempotencyRecord};
use crate::journal::rows::{encode, to_nanos};
use crate::model::limits::{IDEMPOTENCY_ENTRIES, RUNS_KEPT};
use crate::model::request::IdempotencyKey;
use crate::model::{Container, ContainerId, Exec, ExitStatus, Image, Sequence};
use std::time::SystemTime;

/// Writes one change.
pub(super) fn apply(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::PutContainer(container) => put_container(connection, container),
        Change::PutRun(id, exit) => put_run(connection, *id, exit),
        Change::DeleteContainer(container, time) => delete_container(connection, container, *time),
        Change::ForgetContainer(id) => forget_container(connection, *id),
        Change::PutExec(exec) => put_exec(connection, exec),
        Change::DeleteExec(id) => execute(
            connection,
            "DELETE FROM execs WHERE id = ?1",
            [id.to_string()],
        ),
        Change::PutImage(image) => put_image(connection, image),
        Change::DeleteImage(id) => execute(
            connection,
            "DELETE FROM images WHERE id = ?1",
            [id.as_str()],
        ),
        Change::PutIdempotency(key, record) => put_idempotency(connection, key, record),
        Change::ForgetIdempotency(key) => execute(
            connection,
            "DELETE FROM idempotency WHERE principal = ?1 AND method = ?2 AND key = ?3",
            [key.principal.as_str(), &*key.method, &*key.key],
        ),
        Change::Expire {
            deleted_before,
            idempotency_before,
        } => {
            expire_deleted(connection, *deleted_before)?;
            expire_idempotency(connection, *idempotency_before)
        }
    }
}

/// Notes the newest event about a container, wherever its record is by now.
pub(super) fn set_last_event(
    connection: &Connection,
    id: ContainerId,
    event: Sequence,
) -> rusqlite::Result<()> {
    let values = (id.to_string(), event.0.cast_signed());
    let update = "UPDATE containers SET last_event = ?2 WHERE id = ?1";
    if connection.prepare_cached(update)?.execute(values.clone())? > 0 {
        return Ok(());
    }
    let update = "UPDATE deleted SET last_event = ?2 WHERE id = ?1";
    execute(connection, update, values)
}

fn put_container(connection: &Connection, container: &Container) -> rusqlite::Result<()> {
    execute(
        connection,
        "INSERT INTO containers (id, create_time, last_event, record) VALUES (?1, ?2, 0, ?3)
         ON CONFLICT (id) DO UPDATE
         SET create_time = excluded.create_time, record = excluded.record",
        (
            container.id.to_string(),
            to_nanos(container.create_time),
            encode(container)?,
        ),
    )
}

fn put_run(connection: &Connection, id: ContainerId, exit: &ExitStatus) -> rusqlite::Result<()> {
    let id = id.to_string();
    execute(
        connection,
        "INSERT OR REPLACE INTO runs (container_id, run, record) VALUES (?1, ?2, ?3)",
        (&id, exit.run.0.cast_signed(), encode(exit)?),
    )?;
    execute(
        connection,
        "DELETE FROM runs WHERE container_id = ?1 AND run <=
             (SELECT run FROM runs WHERE container_id = ?1 ORDER BY run DESC LIMIT 1 OFFSET ?2)",
        (&id, count(RUNS_KEPT)),
    )
}

fn put_exec(connection: &Connection, exec: &Exec) -> rusqlite::Result<()> {
    execute(
        connection,
        "INSERT INTO execs (id, container_id, create_time, record) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        (
            exec.id.to_string(),
            exec.container.to_string(),
            to_nanos(exec.create_time),
            encode(exec)?,
        ),
    )
}

/// Its runs stay where they are: they are looked up by id.
fn delete_container(
    connection: &Connection,
    container: &Container,
    time: SystemTime,
) -> rusqlite::Result<()> {
    let id = container.id.to_string();
    execute(
        connection,
        "INSERT OR REPLACE INTO deleted (id, name, delete_time, last_event, record)
         VALUES (?1, ?2, ?3, coalesce((SELECT last_event FROM containers WHERE id = ?1), 0), ?4)",
        (&id, &*container.name, to_nanos(time), encode(container)?),
    )?;
    execute(
        connection,
        "DELETE FROM execs WHERE container_id = ?1",
        [&id],
    )?;
    execute(connection, "DELETE FROM containers WHERE id = ?1", [&id])
}

fn forget_container(connection: &Connection, id: ContainerId) -> rusqlite::Result<()> {
    let id = id.to_string();
    execute(
        connection,
        "DELETE FROM runs WHERE container_id = ?1",
        [&id],
    )?;
    execute(connection, "DELETE FROM containers WHERE id = ?1", [&id])
}

fn put_image(connection: &Connection, image: &Image) -> rusqlite::Result<()> {
    execute(
        connection,
        "INSERT OR REPLACE INTO images (id, create_time, record) VALUES (?1, ?2, ?3)",
        (
            image.id.as_str(),
            to_nanos(image.create_time),
            encode(image)?,
        ),
    )
}

fn put_idempotency(
    connection: &Connection,
    key: &IdempotencyKey,
    record: &IdempotencyRecord,
) -> rusqlite::Result<()> {
    execute(
        connection,
        "INSERT OR REPLACE INTO idempotency
         (principal, method, key, request_digest, request_id, time, container_id, answer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            key.principal.as_str(),
            &*key.method,
            &*key.key,
            record.request_digest,
            record.request_id.as_str(),
            to_nanos(record.time),
            record.container.map(|id| id.to_string()),
            record.answer.as_deref(),
        ],
    )
}

fn expire_deleted(connection: &Connection, before: SystemTime) -> rusqlite::Result<()> {
    let before = to_nanos(before);
    execute(
        connection,
        "DELETE FROM runs WHERE container_id IN (SELECT id FROM deleted WHERE delete_time < ?1)",
        [before],
    )?;
    execute(
        connection,
        "DELETE FROM deleted WHERE delete_time < ?1",
        [before],
    )
}

fn expire_idempotency(connection: &Connection, before: SystemTime) -> rusqlite::Result<()> {
    execute(
        connection,
        "DELETE FROM idempotency WHERE time < ?1",
        [to_nanos(before)],
    )?;
    execute(
        connection,
        "DELETE FROM idempotency WHERE rowid IN
             (SELECT rowid FROM idempotency ORDER BY time DESC, rowid DESC LIMIT -1 OFFSET ?1)",
        [count(IDEMPOTENCY_ENTRIES)],
    )
}

fn execute(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
