//! Links where a launch makes files and mounts: what they name outside is never touched, and what is to be
//! hidden is hidden.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use wharf_api::v1::{ContainerSpec, Mount, TerminalSize, TmpfsMount, mount::Source};

use super::{bind, directory, probe, run, running, script, up};
use crate::harness::streams::Whole;
use crate::harness::{Refusal, not_by_runc, scenario};

/// The host's own, which a program of the host would run as root.
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Says how much there is of the host's secrets, without any help of a device, and tries to write to them.
const LOOK: &str = "head -c 64 /proc/keys | wc -c; head -c 64 /proc/timer_list | wc -c; \
    for path in /proc/keys /proc/timer_list /dev/null /dev/console /proc/sys/kernel/core_pattern; do \
    echo core > $path; done; :";

/// Refused, or nothing can be read of the two secrets.
fn must_be_masked(what: &str, tried: &Result<Whole, Refusal>) {
    let Ok(whole) = tried else { return };
    // Behind them come complaints of what is written, if to a terminal.
    let shown: Vec<_> = whole.out().lines().take(2).map(str::trim).collect();
    assert_eq!(shown, ["0", "0"], "{what}: {}", whole.err());
}

#[test]
fn an_image_with_links_in_the_place_of_mounts_leads_nowhere() {
    scenario(async |world| {
        let client = up(world).await;
        let before = fs::read(CORE_PATTERN).unwrap();
        let place = directory(world, "of-the-host");
        let outside = place.display().to_string();
        for (at, (path, target)) in [
            ("dev/null", CORE_PATTERN),
            ("dev/console", CORE_PATTERN),
            ("dev/pts", "/proc/sys/kernel"),
            ("dev/shm", &outside),
            ("sys", &outside),
            ("proc", &outside),
        ]
        .into_iter()
        .enumerate()
        {
            let reference = format!("docker.io/library/links:{at}");
            let image = probe::image_with(&reference, |layer| layer.link(path, target));
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
                must_be_masked(path, &client.run_whole(spec).await);
            }
            assert_eq!(fs::read(CORE_PATTERN).unwrap(), before, "{path}");
            let made: Vec<_> = fs::read_dir(&place).unwrap().flatten().collect();
            assert!(made.is_empty(), "{path}: {made:?} were made outside");
        }
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
            let memory = Mount {
                target: target.to_owned(),
                source: Some(Source::Tmpfs(TmpfsMount::default())),
                ..Default::default()
            };
            for (kind, mount) in [("bind", bind(&shared, target)), ("memory", memory)] {
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
    scenario(async |world| {
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
            let below = Mount {
                target: "/shared/place/below".to_owned(),
                source: Some(Source::Tmpfs(TmpfsMount::default())),
                ..Default::default()
            };
            let spec = ContainerSpec {
                mounts: vec![bind(&shared, "/shared"), below],
                ..script("touch /shared/place/below/made")
            };
            client.run_whole(spec).await.ok();
            assert!(is_empty(&place), "something was made outside");
        }
        client
            .stop("swaps", std::time::Duration::ZERO)
            .await
            .unwrap();
    });
}

#[test]
fn a_directory_of_devices_that_somebody_else_fills_hides_what_is_to_be_hidden() {
    not_by_runc(
        "runc 1.1 hides files behind whatever /dev/null leads to (CVE-2025-31133)",
        async |world| {
            let client = up(world).await;
            let before = fs::read(CORE_PATTERN).unwrap();
            for name in ["null", "console", "ptmx", "pts", "shm", "mqueue"] {
                let devices = directory(world, &format!("devices-{name}"));
                symlink(CORE_PATTERN, devices.join(name)).unwrap();
                let mut spec = ContainerSpec {
                    mounts: vec![bind(&devices, "/dev")],
                    ..script(LOOK)
                };
                if name == "console" {
                    spec.process.get_or_insert_default().terminal = Some(TerminalSize {
                        rows: 24,
                        columns: 80,
                    });
                }
                let tried = client.run_whole(spec).await;
                assert_eq!(fs::read(CORE_PATTERN).unwrap(), before, "{name}");
                must_be_masked(name, &tried);
            }
            assert_eq!(run(&client, running(&["true"])).await.exit.code, 0);
        },
    );
}
