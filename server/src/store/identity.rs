//! Who the server is, and which journal it has.
//!
//! The server's id is made with the database. The journal's epoch, too; a new one begins when the
//! machine was started anew without a clean shutdown before: events that had been seen may not have
//! reached the disk then, and their numbers would be given to others.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _};

use super::error::{Classify as _, StoreError, corrupt};
use crate::model::{Epoch, ServerId};

const SERVER_ID: &str = "server_id";
const EPOCH: &str = "epoch";
const BOOT_ID: &str = "boot_id";
const CLEAN: &str = "clean_shutdown";

/// The machine's present start; `None` if it cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootId(Option<String>);

impl BootId {
    /// This machine's.
    pub(super) fn read() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self::from(text.ok().map(|text| text.trim().to_owned()))
    }

    /// Whether `stored` is surely the same start. If in doubt it is not: a lost place in the journal
    /// is better than a wrong one.
    fn is(&self, stored: Option<&str>) -> bool {
        self.0.is_some() && self.0.as_deref() == stored
    }
}

impl From<Option<String>> for BootId {
    fn from(id: Option<String>) -> Self {
        Self(id)
    }
}

/// Who the server is, and which journal it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) server: ServerId,
    pub(super) epoch: Epoch,
}

/// Makes the identity of a new database. Its epoch is settled by the first [`take_over`].
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    put(connection, SERVER_ID, &ServerId::generate().to_string())?;
    put(connection, EPOCH, &Epoch::generate().to_string())?;
    mark_clean(connection)
}

/// Reads the identity, begins a new epoch if need be, and notes that a server is at work.
pub(super) fn take_over(
    connection: &mut Connection,
    path: &Path,
    boot: &BootId,
) -> Result<Identity, StoreError> {
    let server = id(connection, path, SERVER_ID)?;
    let mut epoch = id(connection, path, EPOCH)?;
    let clean = get(connection, CLEAN).in_database(path)?;
    let stored_boot = get(connection, BOOT_ID).in_database(path)?;
    if clean.as_deref() != Some("1") && !boot.is(stored_boot.as_deref()) {
        epoch = Epoch::generate();
        tracing::warn!(%epoch, "the machine stopped without a clean shutdown: a new epoch begins");
    }
    start(connection, epoch, boot).in_database(path)?;
    Ok(Identity { server, epoch })
}

fn start(connection: &mut Connection, epoch: Epoch, boot: &BootId) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    put(&change, EPOCH, &epoch.to_string())?;
    put(&change, BOOT_ID, boot.0.as_deref().unwrap_or_default())?;
    put(&change, CLEAN, "0")?;
    change.commit()
}

/// Notes that the server has ended with everything on disk.
pub(super) fn mark_clean(connection: &Connection) -> rusqlite::Result<()> {
    put(connection, CLEAN, "1")
}

fn id<T: FromStr>(connection: &Connection, path: &Path, key: &str) -> Result<T, StoreError> {
    get(connection, key)
        .in_database(path)?
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| corrupt(path, format!("{key} is missing or malformed")))
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
}

fn put(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [key, value],
        )
        .map(drop)
}
