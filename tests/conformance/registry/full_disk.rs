//! A disk that is too small for an image: it says so, and has all its space again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use super::{Noisy, reason, up};
use crate::harness::registry::{Access, Registry};
use crate::harness::wait::so;
use crate::harness::{Backend, World, process, scenario, until};

/// What the server's records may have grown by.
const RECORDS: u64 = 2 << 20;
const DISK: u64 = 96 << 20;

/// A file system of its own in a file, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    async fn make() -> Self {
        let place = tempfile::Builder::new()
            .prefix("wharf-disk-")
            .tempdir()
            .unwrap();
        let disk = Self(place);
        let file = disk.0.path().join("ext4");
        fs::File::create(&file).unwrap().set_len(DISK).unwrap();
        fs::create_dir(disk.path()).unwrap();
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F"]).arg(&file);
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&file).arg(disk.path());
        for command in [make, mount] {
            let output = process::run(command, Duration::from_secs(60)).await;
            assert!(output.status.success(), "{output:?}");
        }
        disk
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn free(&self) -> u64 {
        let about = statvfs(self.path()).unwrap();
        about.f_bfree * about.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).ok();
    }
}

/// Where the content of images is, by backend.
fn content(world: &World) -> PathBuf {
    match Backend::of_this_run() {
        Backend::Containerd => world.directory().join("containerd/root"),
        Backend::Local | Backend::LocalBy(_) => world.wharfd.state_dir(),
    }
}

/// Puts the content of images on the disk, before anything has started.
fn lies_on(content: &Path, disk: &Disk) {
    symlink(disk.path(), content).unwrap();
}

/// Pulls what does not fit, `sizes` of noise, and then what does.
fn is_told_and_has_its_space_again(sizes: &'static [usize]) {
    // It outlives the scenario, which uses it to its end.
    let mut kept = None;
    scenario(async |world| {
        let disk = kept.insert(Disk::make().await);
        lies_on(&content(world), disk);
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let large = Noisy::of(1, sizes);
        let small = Noisy::of(2, &[1 << 20]);
        registry.push(&large.recipe, "large:1").await;
        registry.push(&small.recipe, "small:1").await;
        let (large, fits) = (registry.reference("large:1"), registry.reference("small:1"));
        let client = up(world).await;
        let before = disk.free();

        let refusal = client.pull(&large).await.unwrap_err();
        assert_eq!(reason(&refusal), "NO_SPACE", "{refusal}");
        assert_eq!(client.every_image().await, []);
        until(
            "the space is free again",
            Duration::from_secs(60),
            async || {
                let missing = before.saturating_sub(disk.free());
                so(missing <= RECORDS, || {
                    format!("{missing} bytes are missing")
                })
            },
        )
        .await;
        client.pull(&fits).await.unwrap();
        small.is_right(&client, &fits).await;
    });
}

#[test]
fn an_image_that_cannot_even_be_downloaded_is_no_space_and_leaves_none_taken() {
    is_told_and_has_its_space_again(&[120 << 20]);
}

#[test]
fn an_image_that_cannot_be_unpacked_is_no_space_and_leaves_none_taken() {
    // Its layers fit; with what is in them they do not.
    is_told_and_has_its_space_again(&[15 << 20, 15 << 20, 15 << 20, 15 << 20]);
}
