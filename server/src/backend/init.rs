//! The init's file on the host, from which containers that ask for one get it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For everybody to execute and nobody to change.
const MODE: u32 = 0o555;
const NAME: &str = "wharf-init";

/// Puts it into `directory`, unless it is there already, and says where. A file that is not it is replaced as a
/// whole: containers that run go on with the one that they have. Blocking.
///
/// # Errors
/// Those of the files.
pub fn install(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(NAME);
    if !is_it(&path)? {
        let new = directory.join(format!("{NAME}.new"));
        // What an earlier server was in the middle of.
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(wharf_init::PROGRAM)?;
        // Whatever the file creation mask is.
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        file.sync_all()?;
        fs::rename(new, &path)?;
    }
    Ok(path)
}

fn is_it(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => Ok(false),
        Ok(there) => {
            let is_safe = there.mode() & 0o7777 == MODE && there.uid() == owner();
            Ok(is_safe && fs::read(path)? == wharf_init::PROGRAM)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Root, but for tests.
fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn it_is_put_there_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = install(directory.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), wharf_init::PROGRAM);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        let before = inode(&path);
        assert_eq!(install(directory.path()).unwrap(), path);
        assert_eq!(inode(&path), before);
    }

    #[test]
    fn what_is_not_it_is_replaced_and_stays_with_who_has_it_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        for (mode, text) in [(MODE, &b"older"[..]), (0o755, wharf_init::PROGRAM)] {
            fs::remove_file(&path).ok();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            // Cut off in its midst by an earlier server's death.
            fs::write(directory.path().join("wharf-init.new"), b"half").unwrap();
            let (held, before) = (File::open(&path).unwrap(), inode(&path));
            install(directory.path()).unwrap();
            assert_ne!(inode(&path), before);
            assert_eq!(fs::read(&path).unwrap(), wharf_init::PROGRAM);
            assert_eq!(held.metadata().unwrap().len(), text.len() as u64);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}
