//! What the kernel says about a container's memory cgroup; and removing cgroups that nobody else does.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::name::Name;
use crate::oci::runtime_spec;

/// Where cgroups are mounted, by convention of the runtimes.
const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of this server's containers.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    /// From the root of each hierarchy.
    pub(super) parent: PathBuf,
}

impl Cgroups {
    /// How many processes the OOM killer has killed in the container's cgroup since it was made, that is,
    /// in this run; `None` if the cgroup is not there or the kernel does not say (before 4.13).
    ///
    /// Blocking, but never slow: the kernel has the number at hand.
    pub(super) fn oom_kills(&self, name: Name) -> Option<u64> {
        for file in files(
            Path::new(MOUNT),
            &runtime_spec::cgroup_path(&self.parent, &name.to_string()),
        ) {
            if let Ok(text) = fs::read_to_string(file) {
                return counter(&text, "oom_kill");
            }
        }
        None
    }

    /// Removes what a start that was cut off has left: containerd asks the runtime to clear up, and that
    /// knows nothing of a container that it had not yet recorded. Only tidiness, so it cannot fail.
    pub(super) async fn remove(&self, name: Name) {
        let cgroup = runtime_spec::cgroup_path(&self.parent, &name.to_string());
        let removed = tokio::task::spawn_blocking(move || remove(Path::new(MOUNT), &cgroup));
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%name, %error, "a cgroup is left"),
            Err(error) => tracing::warn!(%name, %error, "cgroups were not looked at"),
        }
    }
}

/// Removes the cgroup from each hierarchy that has it. The kernel refuses if a process is in it.
fn remove(mount: &Path, cgroup: &Path) -> std::io::Result<()> {
    let cgroup = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let mut hierarchies = vec![mount.to_owned()];
    for entry in fs::read_dir(mount)? {
        hierarchies.push(entry?.path());
    }
    for hierarchy in hierarchies {
        match fs::remove_dir(hierarchy.join(cgroup)) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The files that count, of cgroup v1 (also on hybrid hosts) and of v2.
fn files(mount: &Path, cgroup: &Path) -> [PathBuf; 2] {
    let cgroup = cgroup.strip_prefix("/").unwrap_or(cgroup);
    [
        mount.join("memory").join(cgroup).join("memory.oom_control"),
        mount.join(cgroup).join("memory.events"),
    ]
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == name {
            value.trim().parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_both_kinds_of_cgroup() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        let v2 = "low 0\nhigh 0\nmax 14\noom 1\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(counter(v1, "oom_kill"), Some(2));
        assert_eq!(counter(v2, "oom_kill"), Some(1));
        assert_eq!(counter("oom_kill_disable 0\n", "oom_kill"), None);
    }

    #[test]
    fn an_absolute_cgroup_stays_below_the_mount() {
        let [v1, v2] = files(Path::new("/m"), Path::new("/wharf/x"));
        assert_eq!(v1, Path::new("/m/memory/wharf/x/memory.oom_control"));
        assert_eq!(v2, Path::new("/m/wharf/x/memory.events"));
    }
}
