//! What must not be there after a scenario, and how to get rid of it if it is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::containerd::{self, Containerd};
use super::wait::{so, until};

/// Shims end a moment after their tasks.
const SETTLED: Duration = Duration::from_secs(60);

/// Fails if containerd keeps anything but images.
pub async fn none_in_containerd(containerd: &Containerd) {
    until("containerd is empty", SETTLED, async || {
        let left = in_containerd(containerd).await;
        so(left.is_empty(), || left.join("; "))
    })
    .await;
}

/// Containers, tasks, leases, and snapshots other than an image's layers.
pub async fn in_containerd(containerd: &Containerd) -> Vec<String> {
    let mut left = Vec::new();
    for kind in ["tasks", "containers", "leases"] {
        let ids = containerd.ctr(&[kind, "list", "-q"]).await;
        left.extend(ids.into_iter().map(|id| format!("{kind}: {id}")));
    }
    let snapshots = writable_snapshots(containerd).await;
    left.extend(
        snapshots
            .into_iter()
            .map(|line| format!("snapshots: {line}")),
    );
    left
}

/// Layers are `Committed`; what a container or a half-done import left is `Active` or `View`.
async fn writable_snapshots(containerd: &Containerd) -> Vec<String> {
    let lines = containerd.ctr(&["snapshots", "list"]).await;
    lines
        .into_iter()
        .skip(1)
        .filter(|line| !line.trim_end().ends_with("Committed"))
        .collect()
}

/// Fails if the host has anything of a scenario's containers.
pub async fn none_on_the_host(directory: &Path) {
    until("the host is clean", SETTLED, async || {
        let left = on_the_host(directory);
        so(left.is_empty(), || left.join("; "))
    })
    .await;
}

/// Fails if the server keeps FIFOs, or the output of execs, of containers that are gone.
pub async fn none_in_state(state: &Path) {
    until("no stream is left", SETTLED, async || {
        let mut left = Vec::new();
        streams_below(&state.join("containers"), &mut left);
        // What is in the trash by then is the next server's to remove.
        for directory in ["roots", "incoming"] {
            let entries = fs::read_dir(state.join("local").join(directory));
            let entries = entries.into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        so(left.is_empty(), || left.join("; "))
    })
    .await;
}

fn streams_below(directory: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_exec = path
            .parent()
            .is_some_and(|parent| parent.ends_with("execs"));
        match entry.file_type() {
            Ok(kind) if kind.is_fifo() || is_exec => left.push(path.display().to_string()),
            Ok(kind) if kind.is_dir() => streams_below(&path, left),
            _ => {}
        }
    }
}

/// Mounts below `directory` or of its containers, processes of its shims and containers, cgroups and runtime states of its
/// containers.
pub fn on_the_host(directory: &Path) -> Vec<String> {
    let ids = known_ids(directory);
    let mounts = mounts_of(directory, &ids).into_iter();
    let cgroups = cgroups_of(&ids).into_iter();
    let states = runtime_states_of(&ids).into_iter();
    let processes = processes_of(directory).into_iter();
    mounts
        .map(|target| format!("mount {}", target.display()))
        .chain(cgroups.map(|group| format!("cgroup {}", group.display())))
        .chain(states.map(|state| format!("runtime state {}", state.display())))
        .chain(processes.map(|(pid, command)| format!("process {pid}: {command}")))
        .collect()
}

/// Ends shims that are there though containerd has no task any more, with what runc had begun for
/// them; how many.
pub async fn end_lost_shims(directory: &Path) -> usize {
    // Those that containerd does know end by themselves, a moment after their tasks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let is_shim = |(_, command): &(i32, String)| command.contains("containerd-shim");
    let shims: Vec<_> = processes_of(directory)
        .into_iter()
        .filter(is_shim)
        .collect();
    let ids = shims
        .iter()
        .filter_map(|(_, command)| id_of_shim(command))
        .collect();
    for (pid, _) in &shims {
        kill(*pid);
    }
    remove_containers(directory, &ids);
    shims.len()
}

/// `… -id ID …`.
fn id_of_shim(command: &str) -> Option<String> {
    let mut words = command.split(' ').skip_while(|word| *word != "-id");
    words.nth(1).map(str::to_owned)
}

/// Notes the ids of containers, so that the host can be searched for what they leave: see
/// [`known_ids`].
pub fn note_ids(directory: &Path, ids: &BTreeSet<String>) {
    let mut all = noted_ids(directory);
    all.extend(ids.iter().cloned());
    let text: Vec<_> = all.into_iter().collect();
    fs::write(directory.join("ids"), text.join("\n")).unwrap();
}

fn noted_ids(directory: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(directory.join("ids")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The ids of every container that was seen: those noted, and those that have a bundle or a root now.
fn known_ids(directory: &Path) -> BTreeSet<String> {
    let mut ids = noted_ids(directory);
    let places = [
        containerd::bundles(directory),
        roots(&directory.join("state")),
    ];
    for entry in places.iter().flat_map(fs::read_dir).flatten().flatten() {
        ids.insert(entry.file_name().to_string_lossy().into_owned());
    }
    ids
}

/// Where the local backend has the roots of containers, by id, with this state.
pub fn roots(state: &Path) -> PathBuf {
    state.join("local/roots")
}

/// Mounts below the directory, and those anywhere whose root or source names one of the containers.
fn mounts_of(directory: &Path, ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount_of_one = |line: &&str| ids.iter().any(|id| line.contains(id.as_str()));
    let target = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    let is_below = |line: &&str| target(line).is_some_and(|target| target.starts_with(directory));
    let lines = table.lines();
    lines
        .filter(|line| is_below(line) || mount_of_one(line))
        .filter_map(target)
        .collect()
}

/// Shims have the socket's path in their command line. Their containers are found by cgroup.
fn processes_of(directory: &Path) -> Vec<(i32, String)> {
    let ids = known_ids(directory);
    let needle = directory.to_string_lossy().into_owned();
    running()
        .filter_map(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let groups = cgroups_of_process(pid);
            let program = command.split('\0').next()?.rsplit('/').next()?;
            // A zombie has no command line; it is over, and whoever adopted it takes it away.
            let is_alive = !command.is_empty();
            let of_shim = program.starts_with("containerd-shim") && command.contains(&needle);
            let of_keeper = command.contains("wharf-keeper") && command.contains(&needle);
            let of_container = ids.iter().any(|id| groups.contains(id.as_str()));
            let told = command.replace('\0', " ");
            (is_alive && (of_shim || of_keeper || of_container))
                .then(|| (pid, told.trim_end().to_owned()))
        })
        .collect()
}

fn running() -> impl Iterator<Item = i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid != own)
}

/// `/wharf/ID` of each controller, on v1, v2 and both.
fn cgroups_of(ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    controllers
        .map(|entry| entry.path())
        .chain([root.to_owned()])
        .flat_map(|controller| named_after(ids, &controller.join("wharf")))
        .collect()
}

/// runc's own records, which containerd's shim keeps outside any containerd's directory.
fn runtime_states_of(ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let root = Path::new("/run/containerd/runc").join(containerd::NAMESPACE);
    named_after(ids, &root)
}

/// What a directory has of these containers, under any of their names in containerd: ID, ID.2 ...
fn named_after(ids: &BTreeSet<String>, directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.split('.').next().is_some_and(|id| ids.contains(id))
        })
        .map(|entry| entry.path())
        .collect()
}

/// Ends and removes everything that a scenario has left. Best effort: it must not hide why a
/// scenario failed.
pub fn remove_all(directory: &Path, containerd: &mut Containerd) {
    containerd.kill();
    let ids = known_ids(directory);
    note_ids(directory, &ids);
    remove_containers(directory, &ids);
    for target in mounts_of(directory, &ids).iter().rev() {
        unmount(target, UnmountFlags::DETACH).ok();
    }
}

/// Ends the processes of containers and their shims, and removes what runc keeps of them.
fn remove_containers(directory: &Path, ids: &BTreeSet<String>) {
    for group in cgroups_of(ids) {
        thaw(&group);
    }
    let of_one = |command: &str, groups: &str| {
        let named = |id: &String| groups.contains(id) || command.contains(id);
        ids.iter().any(named)
    };
    for _ in 0..50 {
        let left: Vec<_> = processes_of(directory)
            .into_iter()
            .filter(|(pid, command)| of_one(command, &cgroups_of_process(*pid)))
            .collect();
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|(pid, _)| kill(*pid));
        pause();
    }
    for group in cgroups_of(ids) {
        remove(&group);
    }
    for state in runtime_states_of(ids) {
        fs::remove_dir_all(state).ok();
    }
}

fn kill(pid: i32) {
    Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL).ok());
}

fn cgroups_of_process(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// With the first hierarchy a frozen process takes no signal, not even SIGKILL.
fn thaw(group: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if group.join(file).exists() {
            fs::write(group.join(file), value).ok();
        }
    }
}

fn remove(group: &Path) {
    for _ in 0..50 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "cleaning up is the last thing a scenario does, and nothing else runs"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
