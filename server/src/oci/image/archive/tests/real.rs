//! Archives that real tools write, made on the spot with umoci and skopeo.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A layout with one image of two layers, tagged `v1`.
struct Layout {
    directory: TempDir,
}

impl Layout {
    fn new() -> Self {
        let layout = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        let image = layout.image();
        run("umoci", &["init", "--layout", &layout.path("layout")]);
        run("umoci", &["new", "--image", &image]);
        layout.add_layer("etc/passwd", "app:x:10:20::/home/app:/bin/sh\n");
        layout.add_layer("etc/group", "app:x:20:\n");
        run(
            "umoci",
            &[
                "config",
                "--image",
                &image,
                "--config.user",
                "app",
                "--config.cmd",
                "serve",
            ],
        );
        layout
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_string_lossy().into_owned()
    }

    fn image(&self) -> String {
        self.path("layout") + ":v1"
    }

    fn add_layer(&self, target: &str, contents: &str) {
        let source = self.path("source");
        std::fs::write(&source, contents).expect("written");
        run(
            "umoci",
            &[
                "insert",
                "--image",
                &self.image(),
                &source,
                &format!("/{target}"),
            ],
        );
    }

    /// Copies the image to another kind of archive; returns its path.
    fn copied_to(&self, kind: &str, name: &str) -> PathBuf {
        let file = self.path("copy.tar");
        let from = format!("oci:{}", self.image());
        let to = format!("{kind}:{file}:{name}");
        run(
            "skopeo",
            &[
                "--insecure-policy",
                "--tmpdir",
                &self.path(""),
                "copy",
                "--quiet",
                &from,
                &to,
            ],
        );
        file.into()
    }

    fn packed(&self) -> PathBuf {
        let file = self.path("layout.tar");
        run("tar", &["-C", &self.path("layout"), "-cf", &file, "."]);
        file.into()
    }

    fn images(&self, archive: &Path) -> Vec<ImageContent> {
        let scratch = self.directory.path().join("scratch");
        std::fs::create_dir(&scratch).expect("made");
        let archive = Archive::open(archive, &scratch).expect("an archive");
        archive.images(&Platform::host()).expect("images")
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {problem}"
    );
}

fn assert_is_the_image(images: &[ImageContent]) {
    let [image] = images else {
        panic!("{images:?}")
    };
    assert_eq!(image.process.user, "app");
    assert_eq!(image.process.cmd, ["serve"]);
    assert_eq!(image.accounts.passwd, "app:x:10:20::/home/app:/bin/sh\n");
    assert_eq!(image.accounts.group, "app:x:20:\n");
    assert_eq!(image.layers.len(), 2);
}

#[test]
fn an_umoci_layout_is_read() {
    let layout = Layout::new();
    let images = layout.images(&layout.packed());
    assert_is_the_image(&images);
    assert!(images[0].references.is_empty(), "a bare tag names nothing");
}

#[test]
fn a_skopeo_oci_archive_is_read() {
    let layout = Layout::new();
    let images = layout.images(&layout.copied_to("oci-archive", "host.test/app:v2"));
    assert_is_the_image(&images);
    assert_eq!(references(&images[0]), ["host.test/app:v2"]);
}

#[test]
fn a_skopeo_docker_archive_is_read() {
    let layout = Layout::new();
    let images = layout.images(&layout.copied_to("docker-archive", "host.test/app:v2"));
    assert_is_the_image(&images);
    assert_eq!(references(&images[0]), ["host.test/app:v2"]);
}
