//! Reading rows from disk: a few read-only connections, used off the async threads. They never make
//! the writer wait: in WAL mode readers and the writer do not lock each other out.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Connections at most: each costs a thread while in use and up to [`CACHE_KIB`] of memory.
const CONNECTIONS: usize = 4;
/// Page cache of each.
const CACHE_KIB: i32 = 256;

/// Why nothing was read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// SQLite or the decoder refuses.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Reading panicked, or the server ends.
    #[error(transparent)]
    Ended(#[from] JoinError),
}

/// The pool. Connections are made when first needed. Clones are the same pool.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    path: Arc<Path>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::default(),
        }
    }

    /// Runs `read` with a connection. If the caller goes away, the connection still comes back.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        // It is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let idle = Arc::clone(&self.idle);
        let path = Arc::clone(&self.path);
        let work = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let connection = kept.map_or_else(|| connect(&path), Ok)?;
            let value = read(&connection)?;
            // One that failed is dropped instead: the next one starts afresh.
            idle.lock().push(connection);
            drop(permit);
            Ok(value)
        });
        work.await?
    }

    /// Closes what is not in use.
    pub(super) fn close_idle(&self) {
        self.idle.lock().clear();
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}
