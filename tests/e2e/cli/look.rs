//! Looking into a container from the host: its main process in `/proc`, its cgroup, and files that
//! its script writes to a directory of the host.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Wharf;
use crate::harness::World;

/// A directory of the host that containers write what they see to.
#[derive(Debug)]
pub struct Window(PathBuf);

impl Window {
    /// An empty one that every user may write to.
    pub fn open(world: &World) -> Self {
        let path = world.directory().join("window");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    /// The flag that mounts it at `/window`.
    pub fn flag(&self) -> String {
        format!("-v {}:/window", self.0.display())
    }

    /// What a script has written to `/window/NAME`, without the end of the last line.
    pub fn read(&self, name: &str) -> String {
        let text = fs::read_to_string(self.0.join(name));
        let text = text.unwrap_or_else(|error| panic!("/window/{name}: {error}"));
        text.trim_end_matches('\n').to_owned()
    }

    /// Runs a script with these flags to its end, and insists that it succeeds.
    pub async fn after(&self, wharf: &Wharf, flags: &str, script: &str) {
        let id = wharf
            .run_script(&format!("{} {flags}", self.flag()), script)
            .await;
        assert_eq!(wharf.ok(&format!("wait {id}")).await, "0", "{script}");
    }
}

/// The main process of a running container, as the host sees it.
#[derive(Debug, Clone, Copy)]
pub struct Main(u64);

impl Main {
    pub async fn of(wharf: &Wharf, container: &str) -> Self {
        let pid = wharf.inspect(container).await["pid"].as_u64();
        Self(pid.expect("a running container has a pid"))
    }

    /// A file of `/proc/PID`.
    pub fn read(self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// `/proc/PID/status`, by field.
    pub fn status(self) -> BTreeMap<String, String> {
        let text = self.read("status");
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// Identity of a namespace, such as `net:[4026531840]`.
    pub fn namespace(self, kind: &str) -> PathBuf {
        namespace(&self.0.to_string(), kind)
    }

    /// Options of the mount at `target`: its own, and those of its file system.
    pub fn mount(self, target: &str) -> Option<String> {
        let table = self.read("mountinfo");
        table.lines().rev().find_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let (own, of_fs) = (fields[5], fields.last()?);
            (fields[4] == target).then(|| format!("{own},{of_fs}"))
        })
    }

    /// A file of its cgroup: by controller and name of the first hierarchy, or by its name in the
    /// second, whichever this host has.
    pub fn cgroup(self, controller: &str, first: &str, second: &str) -> String {
        let groups = self.read("cgroup");
        let of_first = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = controllers.split(',').any(|name| name == controller);
            is_it.then(|| below(&format!("/sys/fs/cgroup/{controller}"), path, first))
        });
        let file = of_first.unwrap_or_else(|| {
            let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
            below("/sys/fs/cgroup", path.expect("a cgroup"), second)
        });
        let text = fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }
}

fn below(root: &str, group: &str, file: &str) -> PathBuf {
    Path::new(root)
        .join(group.trim_start_matches('/'))
        .join(file)
}

/// The host's own, for comparison.
pub fn host_namespace(kind: &str) -> PathBuf {
    namespace("self", kind)
}

fn namespace(process: &str, kind: &str) -> PathBuf {
    let link = format!("/proc/{process}/ns/{kind}");
    fs::read_link(&link).unwrap_or_else(|error| panic!("{link}: {error}"))
}
