//! From the command line to a keeper at work: what it must own, in order, before it may listen.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use wharf_keeper::protocol::{LOCK_NAME, listen};

use crate::args::Args;
use crate::control::{Control, Owned};
use crate::{sys, upgrade};

const NAME: &CStr = c"wharf-keeper";

/// Why it does not keep anything (any more).
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("another keeper is at work in {}", .0.display())]
    AnotherKeeper(PathBuf),
    #[error("{doing}: {source}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn when(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// Runs until there is nothing to do any more.
pub(crate) fn run(args: &Args) -> Result<(), StartError> {
    upgrade::run_sealed().map_err(StartError::when("running from a sealed copy"))?;
    let signals = sys::signals().map_err(StartError::when("blocking signals"))?;
    // The name is for listings only, and a session of its own is refused to who leads a group.
    let _ = rustix::thread::set_name(NAME);
    let _ = rustix::process::setsid();
    raise_descriptor_limit();
    // Children are copies of this process until they become a program: in a container nobody is to look into
    // one, or to open what it runs from.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| StartError::when("hiding from containers")(error.into()))?;
    // What a helper has made outlives it, and is ours then.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| StartError::when("taking over what helpers leave")(error.into()))?;
    match args.resume {
        Some(state) => resume(args, signals, state),
        None => begin(args, signals),
    }
}

fn begin(args: &Args, signals: OwnedFd) -> Result<(), StartError> {
    let lock = lock(&args.directory)?;
    let listener = listen(&args.directory).map_err(StartError::when("listening"))?;
    leave_stdio().map_err(StartError::when("leaving standard input and output"))?;
    let owned = Owned {
        listener,
        lock,
        signals,
    };
    let mut control = Control::new(args.clone(), owned).map_err(StartError::when("starting"))?;
    control.run()
}

fn resume(args: &Args, signals: OwnedFd, state: i32) -> Result<(), StartError> {
    let resumed = sys::adopt(state).and_then(|state| {
        let state = upgrade::load(state)?;
        let owned = Owned {
            listener: sys::adopt(state.listener)?,
            lock: sys::adopt(state.lock)?,
            signals,
        };
        let mut control = Control::new(args.clone(), owned)?;
        for saved in state.streams {
            control.take_over(saved)?;
        }
        Ok(control)
    });
    resumed.map_err(StartError::when("resuming"))?.run()
}

/// The lock lives as long as its descriptor, also over an exec.
fn lock(directory: &Path) -> Result<OwnedFd, StartError> {
    let path = directory.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options
        .open(path)
        .map_err(StartError::when("opening the lock file"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::AnotherKeeper(directory.to_owned())),
        Err(error) => Err(StartError::when("locking")(error.into())),
    }
}

/// Whoever waits for the end of our output learns that we listen.
fn leave_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Up to five descriptors for a stream. If it cannot be raised, fewer streams fit.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
}
