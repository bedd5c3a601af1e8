//! Mounts: how far read-only reaches, what is passed on between host and container, and the usual ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use wharf_api::v1::{ContainerSpec, Mount, TmpfsMount, mount::Source};

use super::{bind, directory, exec_said, memory, run, said, script, start, up, waiting};
use crate::harness::scenario;

/// A file system in memory on the host, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn on(place: &Path) -> Self {
        fs::create_dir_all(place).unwrap();
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

#[test]
fn read_only_reaches_what_was_mounted_below() {
    scenario(async |world| {
        let client = up(world).await;
        let source = directory(world, "source");
        let below = Mounted::on(&source.join("below"));
        fs::write(below.0.join("file"), "of the host").unwrap();
        let spec = ContainerSpec {
            mounts: vec![Mount {
                read_only: true,
                ..bind(&source, "/source")
            }],
            ..script(
                "cat /source/below/file; touch /source/a; touch /source/below/b; \
                 mount -o remount,bind,rw /source/below; touch /source/below/c; :",
            )
        };
        let whole = run(&client, spec).await;
        assert_eq!(whole.out(), "of the host", "{}", whole.err());
        assert!(!source.join("a").exists());
        let left: Vec<_> = fs::read_dir(&below.0)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["file"], "written through a read-only mount");
    });
}

#[test]
fn later_mounts_are_passed_on_neither_way_unless_asked_for() {
    scenario(async |world| {
        let client = up(world).await;
        let source = directory(world, "source");
        // As the host's own are where systemd has mounted them.
        let _shared = Mounted::on(&source);
        mount_change(&source, MountPropagationFlags::SHARED).unwrap();
        fs::create_dir(source.join("late")).unwrap();
        let spec = ContainerSpec {
            mounts: vec![bind(&source, "/source")],
            ..waiting()
        };
        start(&client, "c", spec).await;
        let late = Mounted::on(&source.join("late"));
        fs::write(late.0.join("secret"), "").unwrap();
        assert_eq!(exec_said(&client, "c", &["ls", "/source/late"]).await, "");
        // And the other way: the container has not the right, so what it would do is looked at only.
        let whole = client
            .exec_whole("c", &["mount", "-t", "tmpfs", "none", "/source"])
            .await
            .unwrap();
        assert_ne!(whole.exit.code, 0);
        let table = exec_said(&client, "c", &["cat", "/proc/self/mountinfo"]).await;
        let tags: Vec<_> = table
            .lines()
            .filter(|line| line.contains(" shared:") || line.contains(" master:"))
            .collect();
        assert_eq!(tags, [""; 0], "these are in a group with others");
        client.stop("c", Duration::ZERO).await.unwrap();
    });
}

fn options_of(table: &str, target: &str) -> (Vec<String>, String, Vec<String>) {
    let mut lines = table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let fields = lines.rfind(|fields| fields[4] == target);
    let fields = fields.unwrap_or_else(|| panic!("no {target} in {table}"));
    let dash = fields.iter().position(|field| *field == "-").unwrap();
    let words = |text: &str| {
        let mut words: Vec<_> = text.split(',').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    (
        words(fields[5]),
        fields[dash + 1].to_owned(),
        words(fields[dash + 3]),
    )
}

#[test]
fn the_usual_mounts_have_their_options_and_memory_its_size() {
    scenario(async |world| {
        let client = up(world).await;
        let spec = ContainerSpec {
            shm_size_bytes: 1 << 20,
            mounts: vec![Mount {
                target: "/memory".to_owned(),
                source: Some(Source::Tmpfs(TmpfsMount {
                    size_bytes: 2 << 20,
                    mode: Some(0o750),
                })),
                ..Default::default()
            }],
            ..waiting()
        };
        start(&client, "c", spec).await;
        let table = exec_said(&client, "c", &["cat", "/proc/self/mountinfo"]).await;
        for (target, kind, options) in [
            ("/proc", "proc", &["nodev", "noexec", "nosuid", "rw"][..]),
            ("/sys", "sysfs", &["nodev", "noexec", "nosuid", "ro"]),
            (
                "/dev/mqueue",
                "mqueue",
                &["nodev", "noexec", "nosuid", "rw"],
            ),
            ("/dev/shm", "tmpfs", &["nodev", "noexec", "nosuid", "rw"]),
            ("/dev/pts", "devpts", &["noexec", "nosuid", "rw"]),
            ("/dev", "tmpfs", &["nosuid", "rw"]),
            ("/memory", "tmpfs", &["nodev", "noexec", "nosuid", "rw"]),
        ] {
            let (found, found_kind, _) = options_of(&table, target);
            assert_eq!(found_kind, kind, "{target}");
            for option in options {
                assert!(found.contains(&(*option).to_owned()), "{target}: {found:?}");
            }
        }
        for (target, size) in [
            ("/dev/shm", "size=1024k"),
            ("/memory", "size=2048k"),
            ("/dev", "size=65536k"),
        ] {
            let (_, _, of_system) = options_of(&table, target);
            assert!(
                of_system.contains(&size.to_owned()),
                "{target}: {of_system:?}"
            );
        }
        let modes = exec_said(
            &client,
            "c",
            &["stat", "-c", "%a", "/dev/shm", "/memory", "/dev/pts"],
        )
        .await;
        assert_eq!(modes, "1777\n750\n755\n");
        let full = "dd if=/dev/zero of=/dev/shm/x bs=64k 2>/dev/null; stat -c %s /dev/shm/x; \
                    dd if=/dev/zero of=/memory/x bs=64k 2>/dev/null; stat -c %s /memory/x";
        let sizes = exec_said(&client, "c", &["sh", "-c", full]).await;
        assert_eq!(sizes, "1048576\n2097152\n");
    });
}

#[test]
fn what_is_in_memory_is_not_run_and_is_gone_with_the_run() {
    scenario(async |world| {
        let client = up(world).await;
        let spec = ContainerSpec {
            mounts: vec![memory("/memory")],
            ..script(
                "cat /bin/busybox > /memory/ls; chmod 755 /memory/ls; ls /memory; /memory/ls && exit 1; :",
            )
        };
        let container = start(&client, "c", spec).await;
        assert_eq!(client.exit_of(&container.id, 1).await.unwrap().code, 0);
        client.start("c").await.unwrap();
        assert_eq!(client.exit_of(&container.id, 2).await.unwrap().code, 0);
    });
}

#[test]
fn a_read_only_root_takes_nothing_and_its_memory_does() {
    scenario(async |world| {
        let client = up(world).await;
        let spec = ContainerSpec {
            read_only_root: true,
            mounts: vec![memory("/tmp")],
            ..script(
                "for place in / /etc /bin /var; do touch $place/x 2>/dev/null && echo $place; done; \
                 touch /tmp/x /dev/shm/x && echo memory; mount -o remount,rw / 2>/dev/null && echo again; :",
            )
        };
        assert_eq!(said(&client, spec).await, "memory\n");
    });
}
