//! The FIFOs between a process and the keeper. Blocking, but never for long: nothing is opened that waits
//! for the other side.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Place, StdioError};
use crate::model::StdioPaths;

/// What standard input holds that its process has not read, if the kernel lets it.
const STDIN_BYTES: usize = 256 << 10;

/// Our ends of a process's FIFOs.
#[derive(Debug)]
pub(super) struct Ends {
    /// Read ends, non-blocking: standard output, standard error.
    pub(super) outputs: Vec<OwnedFd>,
    /// The write end of standard input, non-blocking.
    pub(super) stdin: Option<OwnedFd>,
}

/// Makes the FIFOs of a process that is about to start, and opens our ends. Those of the run before it go.
pub(super) fn make(place: &Place) -> Result<Ends, StdioError> {
    let paths = place.paths();
    std::fs::create_dir_all(&place.fifos).map_err(StdioError::fifo(&place.fifos))?;
    if let Some(before @ 1..) = place.run.checked_sub(1) {
        remove(&Place {
            run: before,
            ..place.clone()
        });
    }
    for path in each(&paths) {
        make_one(path).map_err(StdioError::fifo(path))?;
    }
    open(place)
}

/// Opens our ends of FIFOs that are there: those of a process that runs already.
pub(super) fn open(place: &Place) -> Result<Ends, StdioError> {
    let paths = place.paths();
    let outputs = [Some(&paths.stdout), paths.stderr.as_ref()];
    let outputs = outputs.into_iter().flatten().map(|path| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        open_one(path, flags).map_err(StdioError::fifo(path))
    });
    let stdin = paths.stdin.as_ref().map(|path| open_stdin(path));
    Ok(Ends {
        outputs: outputs.collect::<Result<_, _>>()?,
        stdin: stdin.transpose()?.flatten(),
    })
}

/// `None` if it has been closed for good: see [`remove_stdin`].
fn open_stdin(path: &Path) -> Result<Option<OwnedFd>, StdioError> {
    // A writer alone is refused until there is a reader.
    let _reader = match open_one(path, OFlags::RDWR | OFlags::NONBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        reader => reader,
    };
    let writer =
        open_one(path, OFlags::WRONLY | OFlags::NONBLOCK).map_err(StdioError::fifo(path))?;
    // Fewer wake-ups, and callers wait less for a process that is busy; it does no harm if this is refused.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, STDIN_BYTES);
    Ok(Some(writer))
}

/// Removes the FIFO of standard input, which the process has opened long since: who opens the others again
/// after a keeper's death must not open this one, or the process never sees its end.
pub(super) fn remove_stdin(place: &Place) {
    place.paths().stdin.iter().for_each(remove_one);
}

/// Removes them. What is open stays usable.
pub(super) fn remove(place: &Place) {
    each(&place.paths()).for_each(remove_one);
}

fn remove_one(path: &PathBuf) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a FIFO is not removed");
        }
        _ => {}
    }
}

fn each(paths: &StdioPaths) -> impl Iterator<Item = &PathBuf> {
    let some = [
        paths.stdin.as_ref(),
        Some(&paths.stdout),
        paths.stderr.as_ref(),
    ];
    some.into_iter().flatten()
}

/// One that a start left which did not get anywhere makes way.
fn make_one(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

fn open_one(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
