//! What can go wrong in the store, classified by SQLite's codes where it arises.

use std::path::Path;

use rusqlite::ErrorCode;
use thiserror::Error;

/// What can go wrong in the store.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("no space left for the state in {path}")]
    NoSpace {
        /// The database.
        path: String,
    },
    /// The database is damaged, or is none.
    #[error("the state in {path} is damaged: {detail}")]
    Corrupt {
        /// The database.
        path: String,
        /// What SQLite or the decoder says.
        detail: String,
    },
    /// The disk failed, or the file cannot be opened or written.
    #[error("the state in {path} cannot be read or written: {detail}")]
    Io {
        /// The database.
        path: String,
        /// What SQLite says.
        detail: String,
    },
    /// Another server uses this state directory.
    #[error("the state in {path} is in use by another server")]
    InUse {
        /// The database.
        path: String,
    },
    /// The state was written by a newer server.
    #[error("the state in {path} has format {found}; this server knows up to {known}")]
    NewerFormat {
        /// The database.
        path: String,
        /// Its format.
        found: u32,
        /// The newest one known.
        known: u32,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// The way to [`StoreError`] from what others say, for one database.
pub(super) trait Classify<T> {
    /// Says which database it happened in.
    fn in_database(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> Classify<T> for rusqlite::Result<T> {
    fn in_database(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| classify(path, &error))
    }
}

impl<T> Classify<T> for std::io::Result<T> {
    fn in_database(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| {
            let path = path.display().to_string();
            if error.kind() == std::io::ErrorKind::StorageFull {
                StoreError::NoSpace { path }
            } else {
                let detail = error.to_string();
                StoreError::Io { path, detail }
            }
        })
    }
}

/// A damaged database.
pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        path: path.display().to_string(),
        detail: detail.into(),
    }
}

fn classify(path: &Path, error: &rusqlite::Error) -> StoreError {
    let detail = error.to_string();
    if is_undecodable(error) {
        return corrupt(path, detail);
    }
    let path = path.display().to_string();
    let code = error.sqlite_error_code();
    if code == Some(ErrorCode::DiskFull) {
        StoreError::NoSpace { path }
    } else if matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) {
        StoreError::Corrupt { path, detail }
    } else {
        StoreError::Io { path, detail }
    }
}

/// Whether a row, or one that must be there, does not hold what was written.
fn is_undecodable(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
    )
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn classified(result: rusqlite::Result<()>) -> StoreError {
        result
            .in_database(Path::new("/state.db"))
            .expect_err("it fails")
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (x); PRAGMA max_page_count = 3;")
            .unwrap();
        let full = connection.execute_batch("INSERT INTO t VALUES (zeroblob(100000))");
        assert!(matches!(classified(full), StoreError::NoSpace { .. }));
        let wrong = connection.execute_batch("INSERT INTO nowhere VALUES (1)");
        assert!(matches!(classified(wrong), StoreError::Io { .. }));
    }

    #[test]
    fn a_row_that_cannot_be_decoded_is_damage() {
        let connection = Connection::open_in_memory().unwrap();
        let text = connection.query_row("SELECT 'x'", [], |row| row.get::<_, i64>(0));
        assert!(matches!(
            classified(text.map(drop)),
            StoreError::Corrupt { .. }
        ));
    }
}
