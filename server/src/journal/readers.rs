//! Reading rows from disk: a few read-only connections, used off the async threads. They never make
//! the writer wait: in WAL mode readers and the writer do not lock each other out.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::JournalError;

/// Connections at most: each costs a thread while in use and up to [`CACHE_KIB`] of memory.
const CONNECTIONS: usize = 4;
/// Page cache of each.
const CACHE_KIB: i32 = 256;

/// The pool. Connections are made when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::default(),
        }
    }

    /// Runs `read` with a connection. If the caller goes away, the connection still comes back.
    pub(super) async fn run<T, F>(&self, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(unreadable)?;
        let idle = Arc::clone(&self.idle);
        let path = self.path.clone();
        let work = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let connection = kept.map_or_else(|| connect(&path), Ok)?;
            let value = read(&connection)?;
            // One that failed is dropped instead: the next one starts afresh.
            idle.lock().push(connection);
            drop(permit);
            Ok(value)
        });
        work.await
            .map_err(unreadable)?
            .map_err(|error: rusqlite::Error| unreadable(error))
    }

    /// Closes what is not in use.
    pub(super) fn close_idle(&self) {
        self.idle.lock().clear();
    }
}

fn connect(path: &PathBuf) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn unreadable(error: impl ToString) -> JournalError {
    JournalError::Unreadable {
        detail: error.to_string(),
    }
}
