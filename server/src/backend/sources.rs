//! Host directories that bind mounts ask to be made.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io::ErrorKind};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::model::spec::{Mount, MountSource};
use crate::model::{LaunchFailure, errno};

/// How long making one directory may take: it may be on a network file system that hangs.
const TIMEOUT: Duration = Duration::from_secs(10);
const MODE: u32 = 0o755;

/// Makes the missing directories of mounts with `create`, with their parents.
///
/// # Errors
/// [`LaunchFailure::MountFailed`].
pub(super) async fn make_missing(mounts: &[Mount]) -> Result<(), LaunchFailure> {
    for mount in mounts {
        if let MountSource::Bind {
            path, create: true, ..
        } = &mount.source
        {
            make(PathBuf::from(path))
                .await
                .map_err(|error| failed(mount, path, &error))?;
        }
    }
    Ok(())
}

async fn make(path: PathBuf) -> io::Result<()> {
    let making = spawn_blocking(move || make_with_parents(&path));
    match timeout(TIMEOUT, making).await {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err(ErrorKind::Other.into()),
        Err(_) => Err(rustix::io::Errno::TIMEDOUT.into()),
    }
}

fn make_with_parents(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_with_parents(parent)?;
    }
    match fs::DirBuilder::new().mode(MODE).create(path) {
        // Whatever the process's umask is.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(MODE)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn failed(mount: &Mount, path: &str, error: &io::Error) -> LaunchFailure {
    LaunchFailure::MountFailed {
        target: mount.target.clone(),
        source_path: path.to_owned(),
        errno: errno::name_of(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::model::spec::Propagation;

    fn bind(path: &Path) -> Mount {
        Mount {
            target: "/data".to_owned(),
            source: MountSource::Bind {
                path: path.to_str().unwrap().to_owned(),
                create: true,
                propagation: Propagation::Private,
            },
            read_only: false,
        }
    }

    #[tokio::test]
    async fn a_missing_source_is_made_with_its_parents_and_mode_0755() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        make_missing(&[bind(&path)]).await.unwrap();
        make_missing(&[bind(&path)]).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_made_is_a_failed_mount() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let path = file.join("below");
        let failure = make_missing(&[bind(&path)]).await.unwrap_err();
        let expected = LaunchFailure::MountFailed {
            target: "/data".to_owned(),
            source_path: path.to_str().unwrap().to_owned(),
            errno: "ENOTDIR".to_owned(),
        };
        assert_eq!(failure, expected);
    }
}
