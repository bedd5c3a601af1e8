//! Control groups: limits, freezing, who is inside and what they use, for version 1, version 2 and hosts with both.
//!
//! ```text
//! Cgroups::detect ── hierarchies of this host ──► create(name, limits) ──► Cgroup
//!                                             └─► open(name), names()
//! ```
//!
//! A [`Cgroup`] is a name below one parent, in every hierarchy there is. It holds nothing open: the kernel's
//! directories are the state. All of it blocks, never for long. Limits come as the OCI runtime spec has them,
//! which knows both versions. Knows nothing of containers.

mod bpf;
mod devices;
mod hierarchy;
mod limits;
mod oom;
mod stats;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what a host does not have"
)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;
use rustix::process::{Pid, kill_process};
use thiserror::Error;

pub use hierarchy::{Hierarchy, Kind};
pub use oom::OomNotices;
pub use stats::limit_of_v1;

use crate::model::Signal;

/// How long the kernel may take to freeze what is inside, or to let go of what has been killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long apart it is asked.
const PAUSE: Duration = Duration::from_millis(2);

/// What can go wrong with control groups.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The host has no such limit.
    #[error("the host's control groups cannot limit {limit}")]
    NotSupported {
        /// Its field in `LinuxResources`, such as `blockIO.weight`.
        limit: &'static str,
    },
    /// The kernel refuses a value.
    #[error("{value:?} is not taken by {}: {source}", path.display())]
    Refused {
        /// The file it was written to.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's files cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was asked for does not come about.
    #[error("{} does not become {wanted}", path.display())]
    Stuck {
        /// Which group.
        path: PathBuf,
        /// `frozen`, `thawed`, `empty`.
        wanted: &'static str,
    },
}

impl CgroupError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The error number behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } | Self::Io { source, .. } => Errno::from_io_error(source),
            Self::NotSupported { .. } | Self::Stuck { .. } => None,
        }
    }
}

/// The control groups below one parent.
#[derive(Debug, Clone)]
pub struct Cgroups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hierarchies: Vec<Hierarchy>,
    /// From the root of each hierarchy, without a slash in front.
    parent: PathBuf,
    /// The parent has been made in each hierarchy. Out of date once somebody else removes it.
    has_parent: AtomicBool,
}

impl Cgroups {
    /// Those below `parent`, from the root of each hierarchy of this host. Reads a few small files.
    #[must_use]
    pub fn detect(parent: &Path) -> Self {
        Self::of(hierarchy::detect(), parent)
    }

    fn of(hierarchies: Vec<Hierarchy>, parent: &Path) -> Self {
        let parent = parent.strip_prefix("/").unwrap_or(parent).to_owned();
        Self {
            inner: Arc::new(Inner {
                hierarchies,
                parent,
                has_parent: AtomicBool::new(false),
            }),
        }
    }

    /// The hierarchies of this host.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.inner.hierarchies
    }

    /// Makes a control group with these limits; nothing is left if that fails.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn create(&self, name: &str, limits: &LinuxResources) -> Result<Cgroup, CgroupError> {
        let cgroup = self.open(name);
        let had_parent = self.inner.has_parent.load(Ordering::Relaxed);
        let made = match cgroup.make(limits) {
            // Somebody may have removed the parent, or have made another one that passes nothing on.
            Err(_) if had_parent => {
                self.inner.has_parent.store(false, Ordering::Relaxed);
                cgroup.make(limits)
            }
            made => made,
        };
        made.map(|()| cgroup)
    }

    fn make_parents(&self) -> Result<(), CgroupError> {
        if self.inner.has_parent.load(Ordering::Relaxed) {
            return Ok(());
        }
        for hierarchy in &self.inner.hierarchies {
            make_parent(hierarchy, &hierarchy.root.join(&self.inner.parent))?;
        }
        self.inner.has_parent.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The control group of this name, whether or not it is there.
    #[must_use]
    pub fn open(&self, name: &str) -> Cgroup {
        Cgroup {
            all: self.clone(),
            name: name.into(),
        }
    }

    /// The names of those that are there, in any hierarchy.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn names(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for hierarchy in &self.inner.hierarchies {
            let parent = hierarchy.root.join(&self.inner.parent);
            names.extend(directories(&parent)?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// One control group, in every hierarchy. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cgroup {
    all: Cgroups,
    name: Arc<str>,
}

impl Cgroup {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files of version 1 that a process with one thread writes `0` to in order to be inside. Others than
    /// `cgroup.procs`, they need not wait until every processor has seen that nobody is being forked, which takes
    /// the kernel some 15 ms.
    #[must_use]
    pub fn task_files(&self) -> Vec<String> {
        let legacy = self
            .directories()
            .filter(|(hierarchy, _)| hierarchy.kind() == Kind::Legacy);
        let files = legacy.map(|(_, path)| path.join("tasks"));
        files
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    }

    /// The version 2 group, for a process to be made in it (`CLONE_INTO_CGROUP` of clone(2)); `None` if the host
    /// has none.
    ///
    /// # Errors
    /// [`CgroupError::Io`], also if it is not there.
    pub fn open_unified(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let open = |path: PathBuf| match fs::File::open(&path) {
            Ok(directory) => Ok(directory.into()),
            Err(error) => Err(CgroupError::at(path)(error)),
        };
        self.directory(Kind::Unified).map(open).transpose()
    }

    /// Changes the limits.
    ///
    /// # Errors
    /// [`CgroupError`]; limits before the one that is refused have been changed.
    pub fn update(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        self.limit(limits)
    }

    /// Stops everything inside; returns once it stands still.
    ///
    /// # Errors
    /// [`CgroupError`]; then nothing stands still because of this.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer()?;
        let frozen = freezer.set(true);
        if frozen.is_err() {
            let _ = freezer.set(false);
        }
        frozen
    }

    /// Lets everything inside go on.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.freezer()?.set(false)
    }

    /// Whether everything inside stands still, or is about to. False for one that is not there.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        self.freezer()?.is_wanted()
    }

    /// Everything inside, groups below it included. Nothing for one that is not there. A process that has entered
    /// only some hierarchies, because its start was cut off, is inside.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        for (_, path) in self.directories() {
            collect_pids(&path, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether this process is inside.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return false;
        };
        let path = self.all.inner.parent.join(&*self.name);
        text.lines().any(|line| {
            let group = line.splitn(3, ':').nth(2).map(Path::new);
            group.is_some_and(|group| hierarchy::is_below(group, &path))
        })
    }

    /// Sends a signal to everything inside. With SIGKILL nothing is left alive there, however fast it makes more.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn kill(&self, signal: Signal) -> Result<(), CgroupError> {
        let kill_file = self
            .directory(Kind::Unified)
            .map(|path| path.join("cgroup.kill"));
        if signal == Signal::KILL
            && self.all.inner.hierarchies.len() == 1
            && let Some(file) = kill_file.filter(|file| file.exists())
        {
            return write(&file, "1");
        }
        // What stands still cannot make more; and on version 1 it must go on to take the signal.
        let froze = signal == Signal::KILL && self.freeze().is_ok();
        let sent = self.send(signal);
        if froze || signal == Signal::KILL {
            self.thaw()?;
        }
        sent
    }

    fn send(&self, signal: Signal) -> Result<(), CgroupError> {
        let Some(signal) = rustix::process::Signal::from_named_raw(signal.number().into()) else {
            return Err(CgroupError::NotSupported {
                limit: "real-time signals to all processes",
            });
        };
        for pid in self.pids()? {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // It fails for what has just ended.
            let _ = pid.map(|pid| kill_process(pid, signal));
        }
        Ok(())
    }

    /// How many processes the OOM killer has killed inside; `None` if the group is not there or the kernel
    /// does not say (before 4.13).
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let files = [("memory", "memory.oom_control"), ("", "memory.events")];
        let mut texts = files.into_iter().filter_map(|(controller, file)| {
            let path = match controller {
                "" => self.directory(Kind::Unified)?,
                controller => self.controller(controller)?,
            };
            fs::read_to_string(path.join(file)).ok()
        });
        texts.find_map(|text| counter(&text, "oom_kill"))
    }

    /// Tells whenever the OOM killer acts inside. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn oom_notices(&self) -> Result<OomNotices, CgroupError> {
        match self.controller("memory") {
            Some(directory) => OomNotices::of_v1(&directory),
            None => OomNotices::of_v2(&self.directory(Kind::Unified).ok_or(
                CgroupError::NotSupported {
                    limit: "memory.limit",
                },
            )?),
        }
    }

    /// Removes it, with the groups below it. What was killed inside may take a moment to be gone. OK if it is not
    /// there.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        self.directories()
            .try_for_each(|(_, path)| remove(&path, deadline))
    }

    /// Kills everything inside and removes it, with the groups below it. OK if it is not there.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn destroy(&self) -> Result<(), CgroupError> {
        // Nothing is inside what the kernel removes, so who is inside need not be asked first.
        for (_, path) in self.directories() {
            if try_remove(&path)? == Removal::Busy {
                if !self.pids()?.is_empty() {
                    self.kill(Signal::KILL)?;
                }
                return self.remove();
            }
        }
        Ok(())
    }

    fn make(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        self.all.make_parents()?;
        let mut new = Vec::new();
        let made = self.directories().try_for_each(|(hierarchy, path)| {
            make_new(&path)?;
            new.push(path.clone());
            hierarchy.inherit(&path)
        });
        let made = made.and_then(|()| self.limit(limits));
        if made.is_err() {
            // Not what was in the way: something may be inside. And that some of it is left would only hide why.
            for path in new {
                let _ = try_remove(&path);
            }
        }
        made
    }

    fn limit(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        for write in limits::writes(limits, &self.all.inner.hierarchies)? {
            let hierarchy = self.all.inner.hierarchies.get(write.hierarchy);
            if let Some(hierarchy) = hierarchy {
                write.to(&self.below(hierarchy))?;
            }
        }
        if limits.devices().is_some() && !self.has_controller("devices") {
            devices::restrict(self.directory(Kind::Unified).as_deref(), limits)?;
        }
        Ok(())
    }

    fn below(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy
            .root
            .join(&self.all.inner.parent)
            .join(&*self.name)
    }

    /// Its directory in each hierarchy.
    pub fn directories(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        let hierarchies = self.all.inner.hierarchies.iter();
        hierarchies.map(|hierarchy| (hierarchy, self.below(hierarchy)))
    }

    fn has_controller(&self, controller: &str) -> bool {
        self.controller(controller).is_some()
    }

    /// The directory of a version 1 controller.
    fn controller(&self, controller: &str) -> Option<PathBuf> {
        let mut hierarchies = self.all.inner.hierarchies.iter();
        let found = hierarchies.find(|hierarchy| hierarchy.has_v1(controller))?;
        Some(self.below(found))
    }

    fn directory(&self, kind: Kind) -> Option<PathBuf> {
        let mut hierarchies = self.all.inner.hierarchies.iter();
        let found = hierarchies.find(|hierarchy| hierarchy.kind() == kind)?;
        Some(self.below(found))
    }

    fn freezer(&self) -> Result<Freezer, CgroupError> {
        if let Some(directory) = self.controller("freezer") {
            return Ok(Freezer::V1(directory));
        }
        self.directory(Kind::Unified)
            .map(Freezer::V2)
            .ok_or(CgroupError::NotSupported { limit: "freezer" })
    }
}

/// What stops a group.
#[derive(Debug)]
enum Freezer {
    /// Its directory.
    V1(PathBuf),
    /// Its directory.
    V2(PathBuf),
}

impl Freezer {
    fn directory(&self) -> &Path {
        match self {
            Self::V1(directory) | Self::V2(directory) => directory,
        }
    }

    fn set(&self, frozen: bool) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let (file, value) = match (self, frozen) {
            (Self::V1(_), true) => ("freezer.state", "FROZEN"),
            (Self::V1(_), false) => ("freezer.state", "THAWED"),
            (Self::V2(_), true) => ("cgroup.freeze", "1"),
            (Self::V2(_), false) => ("cgroup.freeze", "0"),
        };
        let path = self.directory().join(file);
        loop {
            // On version 1 it must be written again if something has been made inside meanwhile
            // (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
            match write(&path, value) {
                // It is not there, or just being removed: nothing stands still in it.
                Err(CgroupError::Io { source, .. }) if !frozen && is_gone(&source) => return Ok(()),
                done => done?,
            }
            if self.is_frozen()? == frozen {
                return Ok(());
            }
            if Instant::now() > deadline {
                let wanted = if frozen { "frozen" } else { "thawed" };
                let path = self.directory().to_owned();
                return Err(CgroupError::Stuck { path, wanted });
            }
            pause();
        }
    }

    fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self {
            Self::V1(directory) => Ok(read(&directory.join("freezer.state"))?.trim() == "FROZEN"),
            Self::V2(directory) => {
                let events = read(&directory.join("cgroup.events"))?;
                Ok(counter(&events, "frozen") == Some(1))
            }
        }
    }

    fn is_wanted(&self) -> Result<bool, CgroupError> {
        let file = match self {
            Self::V1(directory) => directory.join("freezer.state"),
            Self::V2(directory) => directory.join("cgroup.freeze"),
        };
        match fs::read_to_string(&file) {
            Ok(text) => Ok(matches!(text.trim(), "FROZEN" | "FREEZING" | "1")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(CgroupError::at(file)(error)),
        }
    }
}

/// The parent of all, and on version 2 what those in it may limit.
fn make_parent(hierarchy: &Hierarchy, parent: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(parent).map_err(CgroupError::at(parent))?;
    let below = parent.strip_prefix(&hierarchy.root).unwrap_or(parent);
    let mut path = hierarchy.root.clone();
    hierarchy.pass_on(&path)?;
    for part in below.components() {
        path.push(part);
        hierarchy.inherit(&path)?;
        hierarchy.pass_on(&path)?;
    }
    hierarchy.hand_down(&path);
    Ok(())
}

/// One that is left has limits and counts of its own, and is never taken for a new one. What is inside keeps it, and
/// so keeps the new one out.
fn make_new(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_dir(path).map_err(CgroupError::at(path))?;
            fs::create_dir(path).map_err(CgroupError::at(path))
        }
        made => made.map_err(CgroupError::at(path)),
    }
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// It is not there any more, or was not.
    Gone,
    /// Processes or groups are inside.
    Busy,
}

fn try_remove(path: &Path) -> Result<Removal, CgroupError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(Removal::Gone),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Removal::Gone),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(Removal::Busy),
        Err(error) => Err(CgroupError::at(path)(error)),
    }
}

fn remove(path: &Path, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        if try_remove(path)? == Removal::Gone {
            return Ok(());
        }
        for name in directories(path)? {
            remove(&path.join(name), deadline)?;
        }
        if Instant::now() > deadline {
            let path = path.to_owned();
            return Err(CgroupError::Stuck {
                path,
                wanted: "empty",
            });
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when it is done; this runs on a thread that may block"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn collect_pids(path: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let file = path.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(CgroupError::at(file)(error)),
    }
    for name in directories(path)? {
        collect_pids(&path.join(name), pids)?;
    }
    Ok(())
}

/// The groups below one; none if it is gone.
fn directories(path: &Path) -> Result<Vec<String>, CgroupError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(CgroupError::at(path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// It was not there, or has been removed while it was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(CgroupError::at(path))
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    write_each(path, [value])
}

/// Each value in a write of its own: the kernel takes one at a time.
fn write_each<'a>(
    path: &Path,
    values: impl IntoIterator<Item = &'a str>,
) -> Result<(), CgroupError> {
    let opened = fs::OpenOptions::new().write(true).open(path);
    let mut file = opened.map_err(CgroupError::at(path))?;
    for value in values {
        file.write_all(value.as_bytes())
            .map_err(|source| CgroupError::Refused {
                path: path.to_owned(),
                value: value.to_owned(),
                source,
            })?;
    }
    Ok(())
}

/// `NAME NUMBER` in a line of its own.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}
