//! The hierarchies of a host, from what it has mounted.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupError, read, write};

/// What kind of hierarchy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Version 1: of some controllers, or of none with a name.
    Legacy,
    /// Version 2: of all controllers that no other has.
    Unified,
}

/// One hierarchy of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The directory of the group that this server counts from: the root of the hierarchy as it is mounted.
    pub root: PathBuf,
    /// Of version 1: `memory`; `cpu` and `cpuacct`; `name=systemd`. `None` for version 2.
    pub controllers: Option<Vec<String>>,
}

impl Hierarchy {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.controllers {
            Some(_) => Kind::Legacy,
            None => Kind::Unified,
        }
    }

    pub(super) fn has_v1(&self, controller: &str) -> bool {
        let mut controllers = self.controllers.iter().flatten();
        controllers.any(|own| own == controller)
    }

    /// On version 1 a new group has no processors and no memory nodes, and takes no process before it has some.
    pub(super) fn inherit(&self, path: &Path) -> Result<(), CgroupError> {
        if !self.has_v1("cpuset") {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = path.join(file);
            if read(&own)?.trim().is_empty()
                && let Some(parent) = path.parent()
            {
                write(&own, read(&parent.join(file))?.trim())?;
            }
        }
        Ok(())
    }

    /// On version 1 groups made below this one have its processors and memory nodes from the start, which is cheaper
    /// than to read and write them. Where the kernel does not do it, [`Self::inherit`] does.
    pub(super) fn hand_down(&self, path: &Path) {
        if self.has_v1("cpuset")
            && let Err(error) = write(&path.join("cgroup.clone_children"), "1")
        {
            tracing::debug!(%error, "processors are not handed down");
        }
    }

    /// On version 2 groups below this one may limit what it passes on. One that cannot be is not: who needs it is
    /// told when it is set.
    pub(super) fn pass_on(&self, path: &Path) -> Result<(), CgroupError> {
        if self.kind() == Kind::Legacy {
            return Ok(());
        }
        let has = read(&path.join("cgroup.controllers"))?;
        let control = path.join("cgroup.subtree_control");
        let passed = read(&control)?;
        for controller in has.split_whitespace() {
            if passed.split_whitespace().all(|own| own != controller)
                && let Err(error) = write(&control, &format!("+{controller}"))
            {
                tracing::debug!(controller, %error, "a controller is not passed on");
            }
        }
        Ok(())
    }
}

/// Those of this host. One that is mounted more than once is taken where it is mounted first.
pub(super) fn detect() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    parse(&mounts)
}

/// proc_pid_mountinfo(5).
pub(super) fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let Some(root) = mount.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut fields = file_system.split(' ');
        let controllers = match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => None,
            (Some("cgroup"), Some(options)) => Some(controllers(options)),
            _ => continue,
        };
        if !found.iter().any(|other| other.controllers == controllers) {
            found.push(Hierarchy { root, controllers });
        }
    }
    // Those with controllers first: where a process is, is asked of the first one.
    found.sort_by_key(|hierarchy| hierarchy.kind() == Kind::Unified);
    found
}

/// Of a version 1 mount's options: what is not one that any file system may have.
fn controllers(options: &str) -> Vec<String> {
    const OTHERS: [&str; 8] = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "favordynmods",
        "nofavordynmods",
    ];
    let own = options
        .split(',')
        .filter(|option| !OTHERS.contains(option) && !option.starts_with("release_agent="));
    own.map(str::to_owned).collect()
}

/// Whether a group, as `/proc/PID/cgroup` names it, is this one or below it. What is in front of it depends on
/// where the reader's own namespace begins.
pub(super) fn is_below(group: &Path, path: &Path) -> bool {
    let wanted: Vec<_> = path.components().collect();
    let parts: Vec<_> = group.components().collect();
    parts.windows(wanted.len()).any(|window| window == wanted)
}
