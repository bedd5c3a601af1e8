//! Where streams are on disk.

use std::path::{Path, PathBuf};

use wharf_keeper::segment::Limits;

use crate::model::{ContainerId, ExecId, Run, StdioPaths};

/// The directories of containers below the server's state, and what streams are called.
#[derive(Debug, Clone)]
pub struct Directories {
    containers: PathBuf,
}

impl Directories {
    /// Those below `state_dir`.
    #[must_use]
    pub fn below(state_dir: &Path) -> Self {
        Self {
            containers: state_dir.join("containers"),
        }
    }

    /// All of a container's files.
    #[must_use]
    pub fn container(&self, id: ContainerId) -> PathBuf {
        self.containers.join(id.to_string())
    }

    /// Where the output of a container's main process is recorded, run by run.
    #[must_use]
    pub fn log(&self, id: ContainerId) -> PathBuf {
        self.container(id).join("log")
    }

    /// Where an exec's output is recorded, as run 0.
    #[must_use]
    pub fn exec(&self, container: ContainerId, exec: ExecId) -> PathBuf {
        self.container(container)
            .join("execs")
            .join(exec.to_string())
    }

    /// The name of the streams of a run.
    #[must_use]
    pub fn run_stream(id: ContainerId, run: Run) -> String {
        format!("{id}.{run}")
    }

    /// The name of the streams of an exec.
    #[must_use]
    pub fn exec_stream(exec: ExecId) -> String {
        exec.to_string()
    }
}

/// Where a stream is on disk, and what it consists of.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory of its recording.
    pub segments: PathBuf,
    /// The run in there.
    pub run: u64,
    /// How much is kept.
    pub limits: Limits,
    /// The directory of its FIFOs.
    pub fifos: PathBuf,
    /// Whether it has input.
    pub stdin: bool,
    /// Whether it is a terminal's: then there is one output.
    pub terminal: bool,
}

impl Place {
    pub(super) fn paths(&self) -> StdioPaths {
        let path = |name: &str| self.fifos.join(format!("{}.{name}", self.run));
        StdioPaths {
            stdin: self.stdin.then(|| path("stdin")),
            stdout: path("stdout"),
            stderr: (!self.terminal).then(|| path("stderr")),
        }
    }
}
