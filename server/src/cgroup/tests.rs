//! Against the kernel's own control groups, below a parent of the test's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids, LinuxResources,
};

use super::*;
use crate::model::spec::Resources;
use crate::oci::runtime_spec::{CgroupVersion, resources};

/// Groups below a parent that is removed in the end.
pub(super) struct World {
    pub(super) cgroups: Cgroups,
}

impl World {
    pub(super) fn new() -> Self {
        let parent = format!("/wharf-test-{}", uuid::Uuid::new_v4().simple());
        Self {
            cgroups: Cgroups::detect(Path::new(&parent)),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.cgroups.names().unwrap_or_default() {
            let cgroup = self.cgroups.open(&name);
            let _ = cgroup.kill(Signal::KILL);
            let _ = cgroup.remove();
        }
        for hierarchy in self.cgroups.hierarchies() {
            let _ = fs::remove_dir(hierarchy.root.join(&self.cgroups.inner.parent));
        }
    }
}

/// A shell inside, which enters by itself before it does anything.
fn inside(cgroup: &Cgroup, script: &str) -> Child {
    let unified = cgroup.directory(Kind::Unified);
    let unified = unified.map(|path| path.join("cgroup.procs").display().to_string());
    let files = cgroup.task_files().into_iter().chain(unified);
    let enter: Vec<_> = files.map(|file| format!("echo 0 > {file};")).collect();
    Command::new("sh")
        .arg("-c")
        .arg(format!("{} {script}", enter.concat()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::yield_now();
    }
}

fn host_resources(memory: Option<u64>) -> LinuxResources {
    let limits = Resources {
        memory_limit_bytes: memory,
        pids_limit: Some(64),
        cpu_limit_millicores: Some(500),
        cpu_weight: Some(50),
        ..Resources::default()
    };
    resources(&limits, CgroupVersion::detect())
}

#[test]
fn a_group_is_made_limited_found_and_removed() {
    let world = World::new();
    let cgroup = world
        .cgroups
        .create("a", &host_resources(Some(64 << 20)))
        .unwrap();
    assert_eq!(world.cgroups.names().unwrap(), ["a"]);
    let pids = cgroup
        .controller("pids")
        .or(cgroup.directory(Kind::Unified))
        .unwrap();
    assert_eq!(read(&pids.join("pids.max")).unwrap().trim(), "64");
    if let Some(memory) = cgroup.controller("memory") {
        let limit = read(&memory.join("memory.limit_in_bytes")).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
    }
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
    assert!(world.cgroups.names().unwrap().is_empty());
}

/// Where `pids.max` is.
fn pids_directory(cgroup: &Cgroup) -> PathBuf {
    let pids = cgroup.controller("pids");
    pids.or(cgroup.directory(Kind::Unified)).unwrap()
}

#[test]
fn a_group_that_is_left_is_never_taken_for_a_new_one() {
    let world = World::new();
    world.cgroups.create("a", &host_resources(None)).unwrap();
    let none = LinuxResources::default();
    let cgroup = world.cgroups.create("a", &none).unwrap();
    let limit = read(&pids_directory(&cgroup).join("pids.max")).unwrap();
    assert_eq!(limit.trim(), "max");
}

/// As a start leaves it that was cut off: it has entered one hierarchy only.
#[test]
fn what_is_inside_a_group_keeps_a_new_one_of_its_name_out() {
    let world = World::new();
    let none = LinuxResources::default();
    let left = world.cgroups.create("a", &none).unwrap();
    let (_, last) = left.directories().last().unwrap();
    let enter = format!("echo 0 > {}/cgroup.procs; exec sleep 1000", last.display());
    let mut child = Command::new("sh").args(["-c", &enter]).spawn().unwrap();
    wait_for(|| left.pids().unwrap() == [child.id()]);
    let error = world.cgroups.create("a", &none).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::BUSY));
    for (_, path) in left.directories() {
        assert_eq!(path.exists(), path == last, "{}", path.display());
    }
    assert_eq!(left.pids().unwrap(), [child.id()]);
    left.destroy().unwrap();
    assert!(!child.wait().unwrap().success());
    world.cgroups.create("a", &none).unwrap();
}

#[test]
fn a_group_is_destroyed_with_what_is_inside_and_below() {
    let world = World::new();
    let none = LinuxResources::default();
    let cgroup = world.cgroups.create("a", &none).unwrap();
    for (_, path) in cgroup.directories() {
        fs::create_dir(path.join("below")).unwrap();
    }
    let mut child = inside(&cgroup, "sleep 1000 & sleep 1000 & wait");
    wait_for(|| cgroup.pids().unwrap().len() == 3);
    cgroup.destroy().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(world.cgroups.names().unwrap().is_empty());
    cgroup.destroy().unwrap();
}

/// The second time by somebody who neither passes controllers on nor hands processors down.
#[test]
fn a_parent_that_somebody_removes_or_makes_anew_is_made_ready_again() {
    let world = World::new();
    for is_made_anew in [false, true] {
        let limits = host_resources(Some(64 << 20));
        let before = world.cgroups.create("a", &limits).unwrap();
        before.remove().unwrap();
        for hierarchy in world.cgroups.hierarchies() {
            let parent = hierarchy.root.join(&world.cgroups.inner.parent);
            fs::remove_dir(&parent).unwrap();
            if is_made_anew {
                fs::create_dir(&parent).unwrap();
            }
        }
        let cgroup = world.cgroups.create("b", &limits).unwrap();
        let limit = read(&pids_directory(&cgroup).join("pids.max")).unwrap();
        assert_eq!(limit.trim(), "64");
        let mut child = inside(&cgroup, "exec sleep 1000");
        wait_for(|| cgroup.pids().unwrap() == [child.id()]);
        assert!(cgroup.contains(child.id()));
        cgroup.destroy().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_group_has_the_processors_that_its_parent_has_by_now() {
    let world = World::new();
    let none = LinuxResources::default();
    let first = world.cgroups.create("a", &none).unwrap();
    let Some(cpuset) = first.controller("cpuset") else {
        eprintln!("processors are not given by version 1 here");
        return;
    };
    let parent = cpuset.parent().unwrap();
    let cpus = |group: &Path| read(&group.join("cpuset.cpus")).unwrap();
    assert_eq!(cpus(&cpuset), cpus(parent));
    first.remove().unwrap();
    write(&parent.join("cpuset.cpus"), "0").unwrap();
    let second = world.cgroups.create("b", &none).unwrap();
    assert_eq!(cpus(&second.controller("cpuset").unwrap()).trim(), "0");
}

#[test]
fn a_memory_limit_goes_up_and_down_with_the_one_for_swap() {
    let world = World::new();
    let limits = |memory: i64, swap: i64| {
        let mut both = LinuxMemory::default();
        both.set_limit(Some(memory)).set_swap(Some(swap));
        let mut limits = LinuxResources::default();
        limits.set_memory(Some(both));
        limits
    };
    let cgroup = world
        .cgroups
        .create("a", &limits(64 << 20, 64 << 20))
        .unwrap();
    for megabytes in [128_i64, 32, 256] {
        let bytes = megabytes << 20;
        cgroup.update(&limits(bytes, bytes)).unwrap();
        if let Some(memory) = cgroup.controller("memory") {
            for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] {
                assert_eq!(read(&memory.join(file)).unwrap().trim(), bytes.to_string());
            }
        }
    }
    cgroup.update(&limits(-1, -1)).unwrap();
}

#[test]
fn a_limit_that_the_host_does_not_have_is_named_and_leaves_nothing() {
    let world = World::new();
    let mut limits = LinuxResources::default();
    limits.set_unified(Some([("no.such".to_owned(), "1".to_owned())].into()));
    let error = world.cgroups.create("a", &limits).unwrap_err();
    assert!(
        matches!(error, CgroupError::NotSupported { limit: "unified" }),
        "{error}"
    );
    assert!(world.cgroups.names().unwrap().is_empty());
}

#[test]
fn everything_inside_is_known_frozen_thawed_and_killed() {
    let world = World::new();
    let cgroup = world
        .cgroups
        .create("a", &LinuxResources::default())
        .unwrap();
    let mut child = inside(&cgroup, "sleep 1000 & sleep 1000 & wait");
    wait_for(|| cgroup.pids().unwrap().len() == 3);
    assert!(cgroup.contains(child.id()));
    assert!(!cgroup.contains(std::process::id()));
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    cgroup.kill(Signal::KILL).unwrap();
    assert!(!child.wait().unwrap().success());
    wait_for(|| cgroup.pids().unwrap().is_empty());
    cgroup.remove().unwrap();
}

#[test]
fn a_fork_bomb_does_not_outrun_its_end() {
    let world = World::new();
    let mut pids = LinuxPids::default();
    pids.set_limit(200);
    let mut limits = LinuxResources::default();
    limits.set_pids(Some(pids));
    let cgroup = world.cgroups.create("bomb", &limits).unwrap();
    let script = "bomb() { while :; do sh -c 'while :; do sleep 0.01 & done' & done; }; bomb 2>&1";
    let mut child = inside(&cgroup, script);
    wait_for(|| cgroup.pids().unwrap().len() > 150);
    cgroup.kill(Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_for(|| cgroup.pids().unwrap().is_empty());
    cgroup.remove().unwrap();
}

#[tokio::test]
async fn an_oom_kill_is_told_and_counted() {
    let world = World::new();
    let mut limits = host_resources(Some(32 << 20));
    if let Some(memory) = limits.memory_mut() {
        memory.set_swap(Some(32 << 20));
    }
    let cgroup = world.cgroups.create("a", &limits).unwrap();
    let notices = cgroup.oom_notices().unwrap();
    assert_eq!(cgroup.oom_kills(), Some(0));
    let mut child = inside(&cgroup, "x=$(head -c 200000000 /dev/zero | tr \\\\0 x)");
    let told = tokio::time::timeout(Duration::from_secs(20), notices.next());
    told.await.unwrap().unwrap();
    child.wait().unwrap();
    wait_for(|| cgroup.oom_kills() == Some(1));
}

/// On hybrid hosts as well, whose version 2 hierarchy has no other controllers.
#[test]
fn device_rules_of_version_2_are_asked_at_each_open() {
    let world = World::new();
    let unified = world.cgroups.hierarchies().iter();
    let unified: Vec<_> = unified
        .filter(|hierarchy| hierarchy.kind() == Kind::Unified)
        .cloned()
        .collect();
    if unified.is_empty() {
        eprintln!("this host has no version 2 hierarchy");
        return;
    }
    let parent = Path::new("/").join(&world.cgroups.inner.parent);
    let cgroups = Cgroups::of(unified, &parent);
    let mut limits = LinuxResources::default();
    let mut nothing = LinuxDeviceCgroup::default();
    nothing.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut null = LinuxDeviceCgroup::default();
    null.set_allow(true)
        .set_typ(Some(LinuxDeviceType::C))
        .set_major(Some(1))
        .set_minor(Some(3))
        .set_access(Some("rw".to_owned()));
    limits.set_devices(Some(vec![nothing, null]));
    let cgroup = cgroups.create("devices", &limits).unwrap();
    let tried = "cat /dev/null && echo null; cat /dev/zero 2>&1 | head -c 60; \
                 mknod ./wharf-node c 1 3 2>/dev/null && echo made; true";
    let output = inside(&cgroup, tried).wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("null\n"), "{output}");
    assert!(output.contains("not permitted"), "{output}");
    assert!(!output.contains("made"), "{output}");
}

#[test]
fn hierarchies_are_read_from_what_is_mounted() {
    let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
";
    let found = hierarchy::parse(hybrid);
    let controllers: Vec<_> = found.iter().map(|one| one.controllers.clone()).collect();
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        controllers,
        [names(&["cpu", "cpuacct"]), names(&["name=systemd"]), None]
    );
    let v2 = hierarchy::parse("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    assert_eq!(v2.len(), 1);
    assert_eq!(v2[0].kind(), Kind::Unified);
}

#[test]
fn a_group_is_recognised_wherever_the_reader_begins() {
    let path = Path::new("wharf/id.1");
    for group in ["/wharf/id.1", "/wharf/id.1/below", "/above/wharf/id.1"] {
        assert!(hierarchy::is_below(Path::new(group), path), "{group}");
    }
    for group in ["/", "/wharf", "/wharf/id.10", "/x/id.1"] {
        assert!(!hierarchy::is_below(Path::new(group), path), "{group}");
    }
}
