//! Reading the whole state when the store is opened.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::transaction::IdempotencyRecord;
use crate::journal::rows::{decode, from_nanos};
use crate::model::request::IdempotencyKey;
use crate::model::{
    Container, ContainerId, Exec, ExitStatus, Image, Principal, RequestId, Sequence,
};

/// What was there when the store was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Containers, with their `runs`, in order of creation.
    pub containers: Vec<Container>,
    /// Execs of the containers, in order of creation.
    pub execs: Vec<Exec>,
    /// Images.
    pub images: Vec<Image>,
    /// Idempotency keys in use.
    pub idempotency: Vec<(IdempotencyKey, IdempotencyRecord)>,
}

/// Ends of runs by container id, oldest first.
type Runs = HashMap<String, VecDeque<Arc<ExitStatus>>>;

/// Reads everything.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Recovered> {
    let mut runs = runs(connection)?;
    Ok(Recovered {
        containers: containers(connection, &mut runs)?,
        execs: execs(connection)?,
        images: images(connection)?,
        idempotency: idempotency(connection)?,
    })
}

fn runs(connection: &Connection) -> rusqlite::Result<Runs> {
    let sql = "SELECT container_id, runs.record FROM runs JOIN containers ON id = container_id
               ORDER BY container_id, run";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut runs = Runs::new();
    while let Some(row) = rows.next()? {
        let exit = record(row, 1)?;
        runs.entry(row.get(0)?).or_default().push_back(exit);
    }
    Ok(runs)
}

fn containers(connection: &Connection, runs: &mut Runs) -> rusqlite::Result<Vec<Container>> {
    connection
        .prepare("SELECT id, last_event, record FROM containers ORDER BY create_time, id")?
        .query_map([], |row| {
            let runs = runs.remove(row.get_ref(0)?.as_str()?);
            container(row, runs.unwrap_or_default())
        })?
        .collect()
}

/// The ends of one container's runs, oldest first.
pub(super) fn runs_of(
    connection: &Connection,
    id: &str,
) -> rusqlite::Result<VecDeque<Arc<ExitStatus>>> {
    connection
        .prepare_cached("SELECT record FROM runs WHERE container_id = ?1 ORDER BY run")?
        .query_map([id], |row| record(row, 0))?
        .collect()
}

/// A container from a row of `id, last_event, record`.
pub(super) fn container(
    row: &Row<'_>,
    runs: VecDeque<Arc<ExitStatus>>,
) -> rusqlite::Result<Container> {
    let mut container: Container = record(row, 2)?;
    if container.id.to_string() != row.get_ref(0)?.as_str()? {
        return Err(malformed(0, "the record is another container's"));
    }
    container.last_event = Sequence(row.get::<_, i64>(1)?.cast_unsigned());
    container.runs = Arc::new(runs);
    Ok(container)
}

/// A container's id from a column.
pub(super) fn container_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ContainerId> {
    let id = row.get_ref(column)?.as_str()?.parse();
    id.map_err(|_| malformed(column, "not a container id"))
}

fn execs(connection: &Connection) -> rusqlite::Result<Vec<Exec>> {
    connection
        .prepare("SELECT record FROM execs ORDER BY create_time, id")?
        .query_map([], |row| record(row, 0))?
        .collect()
}

fn images(connection: &Connection) -> rusqlite::Result<Vec<Image>> {
    connection
        .prepare("SELECT record FROM images ORDER BY create_time, id")?
        .query_map([], |row| record(row, 0))?
        .collect()
}

fn idempotency(
    connection: &Connection,
) -> rusqlite::Result<Vec<(IdempotencyKey, IdempotencyRecord)>> {
    connection
        .prepare(
            "SELECT principal, method, key, request_digest, request_id, time, container_id, answer
             FROM idempotency ORDER BY time, rowid",
        )?
        .query_map([], |row| {
            Ok((idempotency_key(row)?, idempotency_record(row)?))
        })?
        .collect()
}

fn idempotency_key(row: &Row<'_>) -> rusqlite::Result<IdempotencyKey> {
    Ok(IdempotencyKey {
        principal: decoded::<Principal>(0, &row.get::<_, String>(0)?)?,
        method: row.get(1)?,
        key: row.get(2)?,
    })
}

fn idempotency_record(row: &Row<'_>) -> rusqlite::Result<IdempotencyRecord> {
    let request_id: String = row.get(4)?;
    let container: Option<String> = row.get(6)?;
    let container = container.map(|id| id.parse()).transpose();
    Ok(IdempotencyRecord {
        request_digest: row.get(3)?,
        request_id: RequestId::parse(&request_id)
            .ok_or_else(|| malformed(4, "not a request id"))?,
        time: from_nanos(row.get(5)?),
        container: container.map_err(|_| malformed(6, "not a container id"))?,
        answer: row.get::<_, Option<Vec<u8>>>(7)?.map(Arc::from),
    })
}

/// A record from a JSON column.
fn record<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    decode(column, row.get_ref(column)?.as_str()?)
}

/// A value that encodes as a string, from that string.
fn decoded<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    use serde::de::IntoDeserializer as _;
    use serde::de::value::{Error, StrDeserializer};
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|_| malformed(column, "malformed text"))
}

fn malformed(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}
