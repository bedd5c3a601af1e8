//! The probe, and images that have it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::harness::image::{Recipe, Tar};

/// Busybox and the probe.
pub const REFERENCE: &str = "docker.io/library/probe:test";

const SOURCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/isolation/probe.c"
);

static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(build);

fn build() -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("probe");
    let status = Command::new("gcc")
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(SOURCE)
        .status()
        .expect("gcc");
    assert!(status.success(), "the probe does not compile");
    std::fs::read(program).unwrap()
}

/// What it answers on the host.
pub fn on_the_host(words: &[&str]) -> String {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("probe");
    std::fs::write(&program, &*PROGRAM).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The image of nearly every scenario of isolation.
pub fn image() -> Bytes {
    image_with(REFERENCE, |_| ())
}

/// The same with more in it, under another reference.
pub fn image_with(reference: &str, more: impl FnOnce(&mut Tar)) -> Bytes {
    let mut recipe = Recipe::busybox(reference);
    let mut layer = Tar::new();
    layer.file("bin/probe", 0o755, &PROGRAM);
    more(&mut layer);
    recipe.layers.push(layer.finish());
    recipe.oci_layout()
}
