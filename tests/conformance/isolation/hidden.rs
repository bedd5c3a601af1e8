//! What the kernel shows of the host, and what would change it: devices, settings, keys, memory, hardware.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{
    exec_said, probe, run, running, said, script, start, unconfined, up, waiting, with_capabilities,
};
use crate::harness::{Client, scenario};

/// Read empty, if the host has them.
const MASKED_FILES: [&str; 5] = [
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sched_debug",
    "/proc/timer_list",
];
/// Empty and read-only, if the host has them.
const MASKED_DIRECTORIES: [&str; 4] = [
    "/proc/acpi",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Of the host, or of a namespace of the container's own: neither is for it to change.
const SETTINGS: [&str; 6] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/file-max",
    "/proc/sys/net/ipv4/ip_forward",
];

fn there<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let is_there = |path: &&str| Path::new(path).exists();
    paths.iter().copied().filter(is_there).collect()
}

#[test]
fn what_is_masked_reads_empty_and_takes_nothing() {
    scenario(async |world| {
        let client = up(world).await;
        // With the right to pass any permission bits, and the one that /proc/kcore asks for: neither is what protects.
        let rights = ["CAP_DAC_READ_SEARCH", "CAP_SYS_RAWIO"];
        let spec = with_capabilities(waiting(), &rights, &[]);
        start(&client, "c", spec).await;
        for file in there(&MASKED_FILES) {
            // It must be opened and read, and there must be nothing in it.
            let shown =
                format!("dd if={file} of=/tmp/read bs=64 count=1 2>/dev/null && wc -c < /tmp/read");
            assert_eq!(
                exec_said(&client, "c", &["sh", "-c", &shown]).await,
                "0\n",
                "{file}"
            );
        }
        for directory in there(&MASKED_DIRECTORIES) {
            let shown =
                format!("ls -A {directory} | wc -l; touch {directory}/x 2>/dev/null; echo $?");
            let shown = exec_said(&client, "c", &["sh", "-c", &shown]).await;
            assert_eq!(shown, "0\n1\n", "{directory}");
        }
        assert!(
            there(&MASKED_FILES).len() >= 3,
            "the host has hardly anything to hide"
        );
    });
}

/// Where the kernel's control groups are: one hierarchy of version 1, or the only one.
fn of_control_groups() -> &'static str {
    if Path::new("/sys/fs/cgroup/pids").exists() {
        "/sys/fs/cgroup/pids"
    } else {
        "/sys/fs/cgroup"
    }
}

/// Whether writing `value` to `path` is refused to root inside.
async fn is_refused(client: &Client, path: &str, value: &str) -> bool {
    let words = format!("echo {value} > {path}");
    let whole = client.exec_whole("c", &["sh", "-c", &words]).await.unwrap();
    whole.exit.code != 0
}

#[test]
fn settings_of_the_kernel_are_read_only() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        // Each is written as it is, should the protection ever fail.
        for path in there(&SETTINGS) {
            let before = fs::read_to_string(path).unwrap();
            assert!(
                is_refused(&client, path, before.trim()).await,
                "{path} was written"
            );
            assert_eq!(fs::read_to_string(path).unwrap(), before, "{path}");
        }
        // Not a key of sysrq: nothing happens, should it get through.
        assert!(is_refused(&client, "/proc/sysrq-trigger", "").await);
        for place in [
            "/proc/irq",
            "/proc/bus",
            "/proc/fs",
            "/sys",
            of_control_groups(),
            "/sys/kernel",
        ] {
            if Path::new(place).exists() {
                assert!(
                    is_refused(&client, &format!("{place}/new"), "1").await,
                    "{place}"
                );
            }
        }
        let remount =
            "mount -o remount,rw /proc/sys || mount -o remount,rw /sys || busybox umount /proc/sys";
        let whole = client
            .exec_whole("c", &["sh", "-c", remount])
            .await
            .unwrap();
        assert_ne!(whole.exit.code, 0, "{}", whole.err());
    });
}

#[test]
fn the_devices_are_the_default_ones() {
    const DEVICES: [(&str, &str); 6] = [
        ("full", "1 7"),
        ("null", "1 3"),
        ("random", "1 8"),
        ("tty", "5 0"),
        ("urandom", "1 9"),
        ("zero", "1 5"),
    ];
    scenario(async |world| {
        let client = up(world).await;
        let listed = said(
            &client,
            script("cd /dev; for name in *; do echo $name; done"),
        )
        .await;
        let expected = [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero",
        ];
        // `core`, a link to the memory that is masked, some make only where there is such memory.
        let listed: Vec<_> = listed.lines().filter(|name| *name != "core").collect();
        assert_eq!(listed, expected);
        start(&client, "c", waiting()).await;
        for (name, numbers) in DEVICES {
            let shown = format!("/dev/{name}");
            let shown = exec_said(&client, "c", &["stat", "-c", "%a %F %t %T", &shown]).await;
            let expected = format!("666 character special file {numbers}\n");
            assert_eq!(shown, expected, "{name}");
        }
        let links = "for name in fd stdin stdout stderr ptmx; do busybox readlink /dev/$name; done";
        let links = exec_said(&client, "c", &["sh", "-c", links]).await;
        let links: Vec<_> = links.lines().collect();
        let own = [
            "/proc/self/fd",
            "/proc/self/fd/0",
            "/proc/self/fd/1",
            "/proc/self/fd/2",
        ];
        assert_eq!(links[..4], own);
        assert!(
            ["pts/ptmx", "/dev/pts/ptmx"].contains(&links[4]),
            "{links:?}"
        );
        // They work: the control group lets them through.
        let use_them = "echo x > /dev/null && echo x > /dev/zero && dd if=/dev/zero bs=1 count=3 | wc -c \
                        && dd if=/dev/urandom bs=1 count=3 | wc -c";
        assert_eq!(
            exec_said(&client, "c", &["sh", "-c", use_them]).await,
            "3\n3\n"
        );
    });
}

/// The block device of the host's root, or else of any partition.
fn a_block_device() -> Option<(u32, u32)> {
    let table = fs::read_to_string("/proc/partitions").ok()?;
    let mut rows = table.lines().skip(2);
    rows.find_map(|row| {
        let mut fields = row.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[test]
fn a_device_of_the_host_cannot_be_opened_even_by_who_may_make_its_file() {
    scenario(async |world| {
        let client = up(world).await;
        let spec = with_capabilities(waiting(), &["CAP_MKNOD", "CAP_SYS_RAWIO"], &[]);
        start(&client, "c", spec).await;
        start(&client, "plain", waiting()).await;
        // Memory, ports, the kernel's log, the host's screen. Not tun, which runc up to 1.1 lets every
        // container use that may make its file.
        let mut devices = vec![("c", 1, 1), ("c", 1, 4), ("c", 1, 11), ("c", 4, 0)];
        devices.extend(a_block_device().map(|(major, minor)| ("b", major, minor)));
        for (kind, major, minor) in devices {
            let (major, minor) = (major.to_string(), minor.to_string());
            let words = ["probe", "device", kind, &major, &minor];
            let answer = exec_said(&client, "c", &words).await;
            let is_refused = ["open EPERM\n", "mknod EPERM\n"].contains(&answer.as_str());
            assert!(is_refused, "{words:?}: {answer}");
            assert_eq!(
                exec_said(&client, "plain", &words).await,
                "mknod EPERM\n",
                "{words:?}"
            );
        }
        // What refuses is the control group, not the probe.
        let null = exec_said(&client, "c", &["probe", "device", "c", "1", "3"]).await;
        assert_eq!(null, "open OK\n");
    });
}

#[test]
fn the_hosts_keys_stay_the_hosts() {
    scenario(async |world| {
        let client = up(world).await;
        let answers = said(&client, running(&["probe", "calls"])).await;
        for call in ["keyctl", "add_key", "request_key"] {
            assert!(answers.contains(&format!("{call} EPERM\n")), "{answers}");
        }
        let listed = run(
            &client,
            script("cat /proc/keys; cat /proc/key-users | wc -c"),
        )
        .await;
        assert!(!listed.out().contains("keyring"), "{}", listed.out());
    });
}

#[test]
fn a_keyring_is_the_containers_own_where_no_filter_keeps_it_from_asking() {
    scenario(async |world| {
        let client = up(world).await;
        let question = ["probe", "keyring"];
        let host = probe::on_the_host(&question[1..]);
        let mut keyrings = BTreeSet::from([host.clone()]);
        for name in ["c", "d"] {
            start(&client, name, unconfined(waiting())).await;
            let by_run = said(&client, unconfined(running(&question))).await;
            let by_exec = exec_said(&client, name, &question).await;
            for keyring in [by_run, by_exec] {
                let number: i64 = keyring.trim().parse().unwrap();
                assert!(number > 0, "the kernel answers {number}");
                assert!(
                    keyrings.insert(keyring),
                    "{keyrings:?}; the host's is {host}"
                );
            }
        }
    });
}

#[test]
fn the_root_is_on_no_disk_that_the_host_lends() {
    scenario(async |world| {
        let client = up(world).await;
        let inside = said(&client, running(&["stat", "-c", "%d", "/bin/busybox"])).await;
        let host = fs::metadata("/").unwrap().dev().to_string();
        assert_ne!(inside.trim(), host);
    });
}
