//! Containers that are gone, found for a while by who waits for their end or reads their log.
//!
//! They stay on disk: what churns through containers has thousands of them, which hardly anybody asks for.

use std::collections::HashSet;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _};

use super::error::{Classify as _, StoreError};
use super::{Store, recovered};
use crate::journal::readers::ReadError;
use crate::journal::rows::to_nanos;
use crate::model::limits::DELETED_KEPT;
use crate::model::{Container, ContainerId};

impl Store {
    /// The container that `key` names, by id or exact name, among those deleted in the last [`DELETED_KEPT`]: the
    /// latest of a name. As it was last, with its `runs`.
    ///
    /// # Errors
    /// [`StoreError`], if it cannot be read.
    pub async fn deleted(&self, key: &str) -> Result<Option<Container>, StoreError> {
        let key = key.to_owned();
        self.read(move |connection| find(connection, &key)).await
    }

    /// All that [`Store::deleted`] finds.
    ///
    /// # Errors
    /// [`StoreError`], if they cannot be read.
    pub async fn deleted_ids(&self) -> Result<HashSet<ContainerId>, StoreError> {
        self.read(ids).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let read = self.readers.run(read).await;
        read.or_else(|error| match error {
            ReadError::Sqlite(error) => Err(error).in_database(&self.database),
            ReadError::Ended(error) if error.is_cancelled() => Err(StoreError::Closed),
            ReadError::Ended(error) => Err(StoreError::Io {
                path: self.database.display().to_string(),
                detail: error.to_string(),
            }),
        })
    }
}

/// What was deleted before is not found any more, also if it has not been removed yet.
fn since() -> i64 {
    let since = SystemTime::now().checked_sub(DELETED_KEPT);
    since.map_or(0, to_nanos)
}

fn ids(connection: &Connection) -> rusqlite::Result<HashSet<ContainerId>> {
    connection
        .prepare_cached("SELECT id FROM deleted WHERE delete_time >= ?1")?
        .query_map([since()], |row| recovered::container_id(row, 0))?
        .collect()
}

fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<Container>> {
    // Between its record and its runs it could expire.
    let both = connection.unchecked_transaction()?;
    both.prepare_cached(
        "SELECT id, last_event, record FROM deleted
         WHERE (id = ?1 OR name = ?1) AND delete_time >= ?2
         ORDER BY id = ?1 DESC, delete_time DESC LIMIT 1",
    )?
    .query_row((key, since()), |row| {
        let id = row.get_ref(0)?.as_str()?;
        recovered::container(row, recovered::runs_of(&both, id)?)
    })
    .optional()
}
