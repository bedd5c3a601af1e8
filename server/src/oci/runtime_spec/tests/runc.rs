//! Specs, run by a real runc: what a container sees, has and is refused. Needs root, runc, a static
//! busybox, and perl for the system calls that no command makes.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::*;

/// A bundle whose root has busybox, and in which the host's programs can be mounted.
struct Bundle {
    directory: TempDir,
    container: Container,
    options: RuntimeOptions,
}

impl Bundle {
    fn new(change: impl FnOnce(&mut ContainerSpec)) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wharf-spec-")
            .tempdir()
            .expect("a directory");
        let bin = directory.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).expect("made");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.iter().find(|path| Path::new(path).exists());
        std::fs::copy(busybox.expect("busybox"), bin.join("busybox")).expect("copied");
        symlink("busybox", bin.join("sh")).expect("linked");

        let mut spec = samples::spec();
        change(&mut spec);
        let mut container = container(spec);
        container.id = crate::model::ContainerId::generate();
        let mut options = RuntimeOptions::new(Host::detect());
        let name = directory.path().file_name().expect("a name");
        options.cgroup_parent = Path::new("/").join(name);
        Self {
            directory,
            container,
            options,
        }
    }

    /// Runs a shell script in which every command is busybox's.
    fn sh(&mut self, script: &str) -> Output {
        let commands = "for c in $(busybox --list); do alias $c=\"busybox $c\"; done";
        let script = format!("PATH=/bin\n{commands}\n{script}");
        self.run(&["/bin/sh", "-c", &script])
    }

    fn run(&mut self, args: &[&str]) -> Output {
        let mut process = (*self.container.process).clone();
        process.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        process.working_dir = "/".to_owned();
        self.container.process = Arc::new(process);
        let spec = build(&self.container, &self.options).expect("a spec");
        let json = serde_json::to_vec(&spec).expect("JSON");
        std::fs::write(self.directory.path().join("config.json"), json).expect("written");
        Command::new("runc")
            .arg("--root")
            .arg(self.directory.path().join("state"))
            .arg("run")
            .arg("--bundle")
            .arg(self.directory.path())
            .arg(self.container.id.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("runc is installed")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let name = self
            .options
            .cgroup_parent
            .strip_prefix("/")
            .expect("absolute");
        let roots = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        for root in roots.map(|root| root.path()) {
            let _ = std::fs::remove_dir(root.join(name));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(name));
    }
}

/// What a script writes in a container that succeeds.
#[track_caller]
fn said(change: impl FnOnce(&mut ContainerSpec), script: &str) -> String {
    let output = Bundle::new(change).sh(script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}{errors}");
    text
}

/// The number that a system call fails with, 0 if it does not.
#[cfg(target_arch = "x86_64")]
#[track_caller]
fn errno_of(change: impl FnOnce(&mut ContainerSpec), call: &str) -> u32 {
    let mut bundle = Bundle::new(|spec| {
        let host = ["/usr", "/lib", "/lib64"].into_iter();
        let host = host.filter(|path| Path::new(path).exists());
        spec.mounts = host
            .map(|path| bind(path, path, Propagation::Private))
            .collect();
        for mount in &mut spec.mounts {
            mount.read_only = true;
        }
        change(spec);
    });
    let script = format!("my $r = syscall({call}); print $r < 0 ? $!+0 : 0");
    let output = bundle.run(&["/usr/bin/perl", "-e", &script]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    text.parse()
        .unwrap_or_else(|_| panic!("{call}: {text}{errors}"))
}

#[test]
fn a_container_sees_itself_only() {
    let seen = said(
        |_| {},
        "echo $$; hostname; wc -l < /proc/net/dev; cat /proc/self/cgroup | grep -v ':/$' | wc -l",
    );
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen[0], "1");
    assert_eq!(seen[1].len(), 12);
    assert_eq!(seen[2], "3", "two lines of heading, and lo");
    assert_eq!(seen[3], "0", "cgroups are seen from its own");
}

#[test]
fn a_container_has_few_privileges() {
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    // chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7, setpcap 8, net_bind 10.
    let nine = "00000000000005fb";
    let none = "0000000000000000";
    let root = said(|_| {}, status);
    for (field, value) in [
        ("CapInh", none),
        ("CapPrm", nine),
        ("CapEff", nine),
        ("CapBnd", nine),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert!(
            root.contains(&format!("{field}:\t{value}\n")),
            "{field}: {root}"
        );
    }

    let mut bundle = Bundle::new(|_| {});
    let mut process = (*bundle.container.process).clone();
    (process.uid, process.gid) = (1000, 1001);
    bundle.container.process = Arc::new(process);
    let output = bundle.sh(&format!("{status}; id"));
    let user = String::from_utf8_lossy(&output.stdout).into_owned();
    for (field, value) in [("CapPrm", none), ("CapEff", none), ("CapBnd", nine)] {
        assert!(
            user.contains(&format!("{field}:\t{value}\n")),
            "{field}: {user}"
        );
    }
    assert!(user.contains("uid=1000 gid=1001 groups=7"), "{user}");
}

#[test]
fn the_hosts_interfaces_cannot_be_read_or_written() {
    let seen = said(
        |_| {},
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
             if [ -e $f ]; then wc -c < $f; fi
         done
         find /sys/firmware /proc/acpi -mindepth 1 2>/dev/null | wc -l
         procs=/sys/fs/cgroup/memory/cgroup.procs
         [ -e $procs ] || procs=/sys/fs/cgroup/cgroup.procs
         for f in /proc/sys/kernel/domainname /proc/sysrq-trigger /sys/kernel/mm/ksm/run $procs; do
             (echo x > $f) 2>/dev/null && echo $f is writable
         done
         mknod /dev/evil b 8 0 2>/dev/null && echo made a device
         echo done",
    );
    let lines: Vec<_> = seen.lines().filter(|line| *line != "0").collect();
    assert_eq!(lines, ["done"]);
}

#[test]
fn the_usual_devices_work() {
    let seen = said(
        |_| {},
        "head -c 3 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null
         ls /dev | tr '\\n' ' '",
    );
    let mut lines = seen.lines();
    assert_eq!((lines.next(), lines.next()), (Some("3"), Some("4")));
    let devices = lines.next().expect("a list");
    for device in [
        "full", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero",
    ] {
        assert!(
            devices.split(' ').any(|name| name == device),
            "{device}: {devices}"
        );
    }
}

#[test]
fn limits_are_set() {
    let (files, expected) = match CgroupVersion::detect() {
        CgroupVersion::V1 => (
            "memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares pids/pids.max",
            ["67108864", "50000", "2597", "77"],
        ),
        CgroupVersion::V2 => (
            "memory.max cpu.max cpu.weight pids.max",
            ["67108864", "50000 100000", "100", "77"],
        ),
    };
    let script = format!(
        "cd /sys/fs/cgroup; cat {files}; ulimit -n; ulimit -H -n; cat /proc/self/oom_score_adj"
    );
    let seen = said(
        |spec| {
            spec.resources = Resources {
                cpu_limit_millicores: Some(500),
                cpu_weight: Some(100),
                memory_limit_bytes: Some(64 << 20),
                swap_limit_bytes: Some(0),
                pids_limit: Some(77),
                ..Resources::default()
            };
            spec.rlimits = vec![Rlimit {
                name: "RLIMIT_NOFILE".to_owned(),
                soft: 333,
                hard: 444,
            }];
        },
        &script,
    );
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen[..4], expected);
    assert_eq!(seen[4..], ["333", "444", "0"]);
}

#[test]
fn memory_mounts_have_their_size() {
    let seen = said(
        |spec| {
            spec.shm_size_bytes = 1 << 20;
            spec.read_only_root = true;
            spec.mounts = vec![Mount {
                target: "/tmp/deep".to_owned(),
                source: MountSource::Tmpfs {
                    size_bytes: Some(2 << 20),
                    mode: 0o1750,
                },
                read_only: false,
            }];
        },
        "df -k /dev/shm /tmp/deep | awk 'NR > 1 { print $2 }'; stat -c %a /tmp/deep
         echo x > /tmp/deep/file && cat /tmp/deep/file
         (echo x > /file) 2>/dev/null || echo read-only",
    );
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen, ["1024", "2048", "1750", "x", "read-only"]);
}

/// A directory with another file system below it.
struct Nested(TempDir);

impl Nested {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("below");
        std::fs::create_dir(&below).expect("made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&below)
            .status();
        assert!(mounted.expect("mount").success());
        Self(directory)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let below = self.0.path().join("below");
        let _ = Command::new("umount").arg(below).status();
    }
}

#[test]
fn a_read_only_bind_mount_is_so_all_the_way_down() {
    let source = Nested::new();
    let path = source.0.path().to_string_lossy().into_owned();
    let write = "(echo x > /data/file) 2>/dev/null && echo top
                 (echo x > /data/below/file) 2>/dev/null && echo below
                 echo done";
    let read_only = |spec: &mut ContainerSpec| {
        spec.mounts = vec![bind("/data", &path, Propagation::Private)];
        spec.mounts[0].read_only = true;
    };
    assert_eq!(said(read_only, write), "done\n");
    let writable = |spec: &mut ContainerSpec| {
        spec.mounts = vec![bind("/data", &path, Propagation::Private)];
    };
    assert_eq!(said(writable, write), "top\nbelow\ndone\n");
}

#[test]
fn every_propagation_can_be_asked_for() {
    let source = tempfile::tempdir().expect("a directory");
    let path = source.path().to_string_lossy().into_owned();
    for propagation in [
        Propagation::Private,
        Propagation::Slave,
        Propagation::Shared,
    ] {
        let mounts = vec![bind("/data", &path, propagation)];
        let seen = said(
            |spec| spec.mounts = mounts,
            "grep ' /data ' /proc/self/mountinfo",
        );
        assert_eq!(
            seen.contains("shared:"),
            propagation == Propagation::Shared,
            "{seen}"
        );
    }
}

#[test]
fn the_hosts_network_comes_with_its_name_and_resolver() {
    let seen = said(
        |spec| spec.network = Network::Host,
        "readlink /proc/self/ns/net; hostname; wc -c < /etc/hosts
         (echo x >> /etc/hosts) 2>/dev/null || echo read-only; readlink /proc/self/ns/uts",
    );
    let seen: Vec<_> = seen.lines().collect();
    let link = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a link");
    assert_eq!(Path::new(seen[0]), link("net"));
    assert_eq!(seen[1], Host::detect().hostname);
    let hosts = std::fs::metadata("/etc/hosts").map_or(0, |hosts| hosts.len());
    assert_eq!(seen[2], hosts.to_string());
    assert_eq!(seen[3], "read-only");
    assert_ne!(
        Path::new(seen[4]),
        link("uts"),
        "a name of its own to change"
    );
}

#[test]
fn another_network_can_be_joined_by_path() {
    let path = "/proc/self/ns/net".to_owned();
    let seen = said(
        |spec| spec.network = Network::Path { path },
        "readlink /proc/self/ns/net",
    );
    let own = std::fs::read_link("/proc/self/ns/net").expect("a link");
    assert_eq!(Path::new(seen.trim()), own);
}

#[test]
fn new_namespaces_are_refused_unless_unconfined() {
    let unshare = "unshare -U true 2>&1 && echo allowed";
    assert_eq!(
        said(|spec| spec.security.seccomp = Seccomp::Unconfined, unshare),
        "allowed\n"
    );
    let output = Bundle::new(|_| {}).sh(unshare);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Operation not permitted"), "{text}");
    let output = Bundle::new(|_| {}).sh("mount -t tmpfs tmpfs /bin 2>&1");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ermi"), "{text}");
}

#[test]
fn a_profile_of_the_callers_is_used() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let json = json.to_owned();
    let seen = said(
        |spec| spec.security.seccomp = Seccomp::Json { json },
        "mkdir /new 2>&1 || true",
    );
    assert!(seen.contains("No space left"), "{seen}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_default_filter_refuses_and_allows_as_it_says() {
    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;
    // Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
    for (call, expected) in [
        ("39", 0),                             // getpid
        ("250, 0, -3, 1", EPERM),              // keyctl
        ("248, 0, 0, 0, 0, -3", EPERM),        // add_key
        ("249, 0, 0, 0, -3", EPERM),           // request_key
        ("425, 1, 0", EPERM),                  // io_uring_setup
        ("323, 0", EPERM),                     // userfaultfd
        ("321, 0, 0, 0", EPERM),               // bpf
        ("298, 0, 0, -1, -1, 0", EPERM),       // perf_event_open
        ("272, 0x10000000", EPERM),            // unshare, a user namespace
        ("56, 0x10000011, 0, 0, 0, 0", EPERM), // clone, a user namespace
        ("435, 0, 0", ENOSYS),                 // clone3
        ("165, 0, 0, 0, 0, 0", EPERM),         // mount
        ("304, -1, 0, 0", EPERM),              // open_by_handle_at
        ("135, 0xffffffff", 0),                // personality, asked
        ("135, 0x40000", EPERM),               // personality, ADDR_NO_RANDOMIZE
        ("41, 2, 1, 0", 0),                    // socket, AF_INET
        ("41, 16, 3, 0", 0),                   // socket, AF_NETLINK
        ("41, 38, 5, 0", EPERM),               // socket, AF_ALG
        ("41, 40, 1, 0", EPERM),               // socket, AF_VSOCK
        ("161, 0", EPERM),                     // chroot
        ("999", ENOSYS),                       // newer than all of them
    ] {
        assert_eq!(errno_of(|_| {}, call), expected, "syscall({call})");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_capability_opens_what_it_is_for() {
    const EFAULT: u32 = 14;
    let with = |capability: &str, call: &str| {
        let capability = capability.to_owned();
        errno_of(
            |spec| spec.security.capabilities_add = vec![capability],
            call,
        )
    };
    assert_eq!(with("CAP_SYS_CHROOT", "161, 0"), EFAULT);
    assert_eq!(
        with("CAP_SYS_ADMIN", "272, 0x04000000"),
        0,
        "a uts namespace"
    );
    assert_eq!(with("ALL", "250, 0, -3, 1"), 1, "key rings stay closed");
}
