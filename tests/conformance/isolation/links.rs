//! Links where a launch makes files and mounts: what they name outside is never touched, and what is to be
//! hidden is hidden.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use wharf_api::ErrorReason;
use wharf_api::v1::{ContainerSpec, TerminalSize};

use super::{bind, directory, memory, probe, run, running, script, up};
use crate::harness::streams::Whole;
use crate::harness::{Backend, Refusal, by_wharf_alone, not_by_runc, scenario};

/// The host's own, which a program of the host would run as root.
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// What it is. A container that gets through to it fails the scenario, and leaves nothing changed.
struct CorePattern(Vec<u8>);

impl CorePattern {
    fn of_the_host() -> Self {
        let own = fs::read(CORE_PATTERN).unwrap();
        assert!(
            !own.starts_with(b"of-a-container"),
            "it was left by a scenario"
        );
        Self(own)
    }

    fn must_be_as_it_was(&self, what: &str) {
        let now = fs::read(CORE_PATTERN).unwrap();
        if now != self.0 {
            fs::write(CORE_PATTERN, &self.0).unwrap();
            panic!("{what}: it was {}", now.escape_ascii());
        }
    }
}

/// Says how much there is of the host's secrets, without any help of a device; whether `/proc` is where it should be,
/// and how many terminals are where they should not; and tries to write to all.
const LOOK: &str = "head -c 64 /proc/keys | wc -c; head -c 64 /proc/timer_list | wc -c; \
    grep -c ' /proc rw' /proc/self/mountinfo; \
    grep ' - devpts ' /proc/self/mountinfo | grep -vc ' /dev/'; \
    for path in /proc/keys /proc/timer_list /dev/null /dev/console /proc/sys/kernel/core_pattern; do \
    echo of-a-container > $path; done; :";

/// Refused, or nothing can be read of the two secrets, and what the kernel shows is in its place. Says which.
fn must_be_masked(what: &str, tried: &Result<Whole, Refusal>) -> bool {
    let Ok(whole) = tried else { return false };
    // As it is with a file for /dev/null.
    if Backend::of_this_run() == Backend::LocalBy("crun") && whole.out().is_empty() {
        return false;
    }
    // Behind them come complaints of what is written, if to a terminal.
    let shown: Vec<_> = whole.out().lines().take(4).map(str::trim).collect();
    assert_eq!(shown, ["0", "0", "1", "0"], "{what}: {}", whole.err());
    true
}

#[test]
fn an_image_with_links_in_the_place_of_mounts_leads_nowhere() {
    scenario(async |world| {
        let client = up(world).await;
        let core_pattern = CorePattern::of_the_host();
        let place = directory(world, "of-the-host");
        let outside = place.display().to_string();
        let mut looked = 0;
        for (at, (path, target)) in [
            ("dev/null", CORE_PATTERN),
            ("dev/console", CORE_PATTERN),
            ("dev/pts", "/proc/sys/kernel"),
            ("dev/shm", &outside),
            ("sys", &outside),
            ("proc", &outside),
            ("sys", "/elsewhere"),
            ("proc", "/elsewhere"),
        ]
        .into_iter()
        .enumerate()
        {
            let reference = format!("docker.io/library/links:{at}");
            let image = probe::image_with(&reference, |layer| {
                layer.file("elsewhere/file", 0o644, b"");
                layer.link(path, target);
            });
            client.import(image).await.unwrap();
            for terminal in [false, true] {
                let mut spec = ContainerSpec {
                    image: reference.clone(),
                    ..script(LOOK)
                };
                let size = terminal.then_some(TerminalSize {
                    rows: 24,
                    columns: 80,
                });
                spec.process.get_or_insert_default().terminal = size;
                looked += usize::from(must_be_masked(path, &client.run_whole(spec).await));
            }
            core_pattern.must_be_as_it_was(path);
            let made: Vec<_> = fs::read_dir(&place).unwrap().flatten().collect();
            assert!(made.is_empty(), "{path}: {made:?} were made outside");
        }
        assert!(looked > 0, "all of them were refused");
    });
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn an_image_whose_devices_are_a_link_to_the_host_puts_nothing_there() {
    not_by_runc(
        "runc 1.1 makes the links of /dev by paths that follow it",
        async |world| {
            let client = up(world).await;
            let place = directory(world, "of-the-host");
            let outside = place.display().to_string();
            let image = probe::image_with("docker.io/library/links:dev", |layer| {
                layer.link("dev", &outside);
            });
            client.import(image).await.unwrap();
            let spec = ContainerSpec {
                image: "docker.io/library/links:dev".to_owned(),
                ..script(LOOK)
            };
            must_be_masked("dev", &client.run_whole(spec).await);
            let made: Vec<_> = fs::read_dir(&place).unwrap().flatten().collect();
            assert!(made.is_empty(), "{made:?} were made outside");
        },
    );
}

#[test]
fn a_mount_on_a_link_ends_inside_of_the_root() {
    scenario(async |world| {
        let client = up(world).await;
        let place = directory(world, "of-the-host");
        let shared = directory(world, "shared");
        fs::write(shared.join("mounted"), "").unwrap();
        let up_there = format!("../../../../../../../..{}", place.display());
        let image = probe::image_with("docker.io/library/links:test", |layer| {
            layer.link("absolute", &place.display().to_string());
            layer.link("relative", &up_there);
            layer.link("first", "second");
            layer.link("second", "/absolute");
        });
        client.import(image).await.unwrap();
        for target in [
            "/absolute",
            "/relative",
            "/first",
            "/absolute/below",
            "/relative/below",
        ] {
            for (kind, mount) in [("bind", bind(&shared, target)), ("memory", memory(target))] {
                let spec = ContainerSpec {
                    image: "docker.io/library/links:test".to_owned(),
                    mounts: vec![mount],
                    ..script(&format!("touch {target}/made; ls {target}"))
                };
                let tried = client.run_whole(spec).await;
                assert!(is_empty(&place), "{kind} on {target}: outside");
                if let Ok(whole) = tried {
                    let expected = if kind == "bind" {
                        "made\nmounted\n"
                    } else {
                        "made\n"
                    };
                    assert_eq!(whole.out(), expected, "{kind} on {target}");
                }
            }
        }
    });
}

#[test]
fn a_volume_that_turns_to_a_link_while_it_is_mounted_on_leads_nowhere() {
    not_by_runc(
        "runc 1.1 makes what a mount is missing by paths that change meanwhile (CVE-2024-45310)",
        async |world| {
            let client = up(world).await;
            let shared = directory(world, "shared");
            let place = directory(world, "of-the-host");
            fs::create_dir(shared.join("place")).unwrap();
            symlink(&place, shared.join("link")).unwrap();
            let swaps = ContainerSpec {
                mounts: vec![bind(&shared, "/shared")],
                ..running(&["probe", "swap", "/shared/place", "/shared/link", "20"])
            };
            super::start(&client, "swaps", swaps).await;
            for _ in 0..15 {
                let below = memory("/shared/place/below");
                let spec = ContainerSpec {
                    mounts: vec![bind(&shared, "/shared"), below],
                    ..script("touch /shared/place/below/made")
                };
                client.run_whole(spec).await.ok();
                assert!(is_empty(&place), "something was made outside");
            }
            client.stop("swaps", Duration::ZERO).await.unwrap();
        },
    );
}

/// The device itself.
fn make_null(path: &Path) {
    let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
    mknodat(CWD, path, kind, mode, makedev(1, 3)).unwrap();
}

#[test]
fn a_directory_of_devices_that_somebody_else_fills_hides_what_is_to_be_hidden() {
    not_by_runc(
        "runc 1.1 hides files behind whatever /dev/null leads to (CVE-2025-31133)",
        async |world| {
            let client = up(world).await;
            let core_pattern = CorePattern::of_the_host();
            let mut looked = 0;
            let links = ["null", "console", "ptmx", "pts", "shm", "mqueue"];
            let links = links.map(|name| (name, Some(CORE_PATTERN)));
            let others = [("console", Some("/etc/hostname")), ("null", None)];
            // Without /dev/null crun refuses all of them.
            let ways = [false, true].into_iter().flat_map(|has_null| {
                let cases = links.into_iter().chain(others);
                let cases = cases.filter(move |(name, _)| !has_null || *name != "null");
                cases.map(move |(name, target)| (name, target, has_null))
            });
            for (at, (name, target, has_null)) in ways.enumerate() {
                let devices = directory(world, &format!("devices-{at}"));
                if has_null {
                    make_null(&devices.join("null"));
                }
                match target {
                    Some(target) => symlink(target, devices.join(name)).unwrap(),
                    None => fs::write(devices.join(name), "what hides nothing").unwrap(),
                }
                let mut spec = ContainerSpec {
                    mounts: vec![bind(&devices, "/dev")],
                    ..script(LOOK)
                };
                if name == "console" {
                    // Otherwise there is no terminal to be had.
                    fs::create_dir(devices.join("pts")).unwrap();
                    spec.mounts.push(bind(Path::new("/dev/pts"), "/dev/pts"));
                    spec.process.get_or_insert_default().terminal = Some(TerminalSize {
                        rows: 24,
                        columns: 80,
                    });
                }
                let tried = client.run_whole(spec).await;
                core_pattern.must_be_as_it_was(name);
                looked += usize::from(must_be_masked(name, &tried));
            }
            assert!(looked > 0, "all of them were refused");
            assert_eq!(run(&client, running(&["true"])).await.exit.code, 0);
        },
    );
}

#[test]
fn a_null_device_that_is_exchanged_meanwhile_hides_what_it_should() {
    by_wharf_alone(
        "runc 1.1 hides files behind whatever /dev/null leads to (CVE-2025-31133), and with crun 1.8 a container is silent",
        async |world| {
            let client = up(world).await;
            let devices = directory(world, "devices");
            make_null(&devices.join("null"));
            fs::write(devices.join("other"), "what hides nothing").unwrap();
            let swaps = ContainerSpec {
                mounts: vec![bind(&devices, "/shared")],
                ..running(&["probe", "swap", "/shared/null", "/shared/other", "60"])
            };
            super::start(&client, "swaps", swaps).await;
            let mut looked = 0;
            for _ in 0..40 {
                let spec = ContainerSpec {
                    mounts: vec![bind(&devices, "/dev")],
                    ..script(LOOK)
                };
                let tried = client.run_whole(spec).await;
                looked += usize::from(must_be_masked("exchanged", &tried));
            }
            assert!(looked > 0, "all of them were refused");
            client.stop("swaps", Duration::ZERO).await.unwrap();
        },
    );
}

#[test]
fn nothing_is_mounted_over_what_the_kernel_says() {
    by_wharf_alone(
        "a mount of memory may be on /proc if runc 1.1 or crun 1.8 launches",
        async |world| {
            let client = up(world).await;
            let shared = directory(world, "shared");
            let image = probe::image_with("docker.io/library/links:proc", |layer| {
                layer.link("settings", "/proc/sys/kernel");
                layer.link("labels", "/proc/self/attr");
                layer.link("all", "/proc");
                layer.file("elsewhere/file", 0o644, b"");
                layer.link("plain", "/elsewhere");
            });
            client.import(image).await.unwrap();
            for target in ["/settings", "/labels", "/all", "/all/sys", "/plain"] {
                for (kind, mount) in [("bind", bind(&shared, target)), ("memory", memory(target))] {
                    let spec = ContainerSpec {
                        image: "docker.io/library/links:proc".to_owned(),
                        mounts: vec![mount],
                        ..script("grep ' /proc' /proc/self/mountinfo")
                    };
                    match client.run_whole(spec).await {
                        Err(refusal) => {
                            assert!(refusal.is(ErrorReason::MountFailed), "{refusal:?}");
                            assert_ne!(target, "/plain", "{kind}: {refusal:?}");
                        }
                        Ok(whole) => assert_eq!(target, "/plain", "{kind}: {}", whole.out()),
                    }
                }
            }
        },
    );
}
