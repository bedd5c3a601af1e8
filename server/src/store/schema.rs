//! The database's format: made at first use, migrated step by step, refused if it is newer.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::directory::{StateDir, create_private, remove_database};
use super::error::{Classify as _, StoreError, corrupt};
use super::identity;

/// What leads from one format to the next. What has been released is never changed, only added to.
const MIGRATIONS: [&str; 3] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
];
/// "WHRF": tells our database from others.
const APPLICATION_ID: i32 = 0x5748_5246;
/// The writer's page cache.
const CACHE_KIB: i32 = 2_048;
/// The log is cut to this once it has been written back, in bytes.
const WAL_KEPT: i64 = 8 << 20;

/// Opens the database in `dir` for writing, makes it if there is none, and brings it to the newest
/// format.
pub(super) fn open(dir: &StateDir) -> Result<Connection, StoreError> {
    let path = dir.database();
    if !path.try_exists().in_database(&path)? {
        create(dir)?;
    }
    let mut connection = connect(&path).in_database(&path)?;
    check(&connection, &path)?;
    migrate(&mut connection).in_database(&path)?;
    prepare(&connection).in_database(&path)?;
    Ok(connection)
}

/// Makes a database under another name and moves it in place when it is whole. So an empty or
/// half-made file under the right name is always damage, and never taken for a first start.
fn create(dir: &StateDir) -> Result<(), StoreError> {
    let (path, unfinished) = (dir.database(), dir.unfinished());
    // A log left by a database that somebody removed would be taken for the new one's.
    remove_database(&path).in_database(&path)?;
    remove_database(&unfinished).in_database(&path)?;
    create_private(&unfinished).in_database(&path)?;
    fill(&unfinished).in_database(&path)?;
    let whole = File::open(&unfinished).in_database(&path)?;
    whole.sync_all().in_database(&path)?;
    fs::rename(&unfinished, &path).in_database(&path)?;
    dir.sync().in_database(&path)
}

fn fill(path: &Path) -> rusqlite::Result<()> {
    let mut connection = connect(path)?;
    // It is synced once, when it is whole.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(&mut connection)?;
    identity::create(&connection)?;
    connection.close().map_err(|(_, error)| error)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Whether it is ours, and of a format we know.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let application: i32 = pragma(connection, "application_id").in_database(path)?;
    if application != APPLICATION_ID {
        return Err(corrupt(path, "it is not a database of this server"));
    }
    let found: u32 = pragma(connection, "user_version").in_database(path)?;
    let known = newest();
    if found > known {
        let path = path.display().to_string();
        return Err(StoreError::NewerFormat { path, found, known });
    }
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found: u32 = pragma(connection, "user_version")?;
    for (version, step) in (1..).zip(MIGRATIONS) {
        if version > found {
            let migration = connection.transaction()?;
            migration.execute_batch(step)?;
            migration.pragma_update(None, "user_version", version)?;
            migration.commit()?;
        }
    }
    Ok(())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a plan may be made for bound values (of LIMIT and OFFSET, for example), and is made again whenever
    // they are bound anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// The newest format known.
fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}
