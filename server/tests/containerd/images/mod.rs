//! Images in containerd: taking archives in, and their names.

mod archive;
mod blobs;
mod ingest;
mod names;

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use wharf_server::backend::containerd::Containerd;
use wharf_server::backend::{BackendError, ContainerBackend};
use wharf_server::model::Image;
use wharf_server::model::image::Platform;
use wharf_server::oci::image::{Archive, ImageContent};

use crate::harness::Daemon;

/// What is in containerd, counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    pub(crate) blobs: usize,
    pub(crate) snapshots: usize,
    pub(crate) leases: usize,
}

impl Counts {
    pub(crate) const NOTHING: Self = Self {
        images: 0,
        blobs: 0,
        snapshots: 0,
        leases: 0,
    };
}

impl Daemon {
    /// Runs a program of an image, and gives what it wrote.
    pub(crate) fn ctr_run(&self, reference: &str, args: &[&str]) -> String {
        let cgroup = self.cgroup_of("run");
        let run = ["run", "--rm", "--cgroup", &cgroup, reference, "run"];
        self.ctr(&[&run[..], args].concat())
    }

    pub(crate) fn counts(&self) -> Counts {
        let lines = |args: &[&str]| self.ctr(args).lines().count();
        Counts {
            images: lines(&["images", "ls", "-q"]),
            blobs: lines(&["content", "ls", "-q"]),
            snapshots: lines(&["snapshots", "ls"]) - 1,
            leases: lines(&["leases", "ls", "-q"]),
        }
    }

    /// The images of an archive.
    pub(crate) fn read(&self, archive: &[u8]) -> Vec<ImageContent> {
        let scratch = tempfile::tempdir_in(self.path("")).expect("a directory");
        let scratch = scratch.keep();
        let path = scratch.join("archive.tar");
        fs::write(&path, archive).expect("written");
        let blobs = scratch.join("blobs");
        fs::create_dir(&blobs).expect("made");
        let archive = Archive::open(&path, &blobs).expect("an archive");
        archive.images(&Platform::host()).expect("images")
    }

    /// The one image of an archive, with its record.
    pub(crate) fn read_one(&self, archive: &[u8]) -> (Image, Arc<ImageContent>) {
        let content = self.read(archive).pop().expect("an image");
        (record(&content), Arc::new(content))
    }

    /// Takes an archive's image in.
    pub(crate) async fn ingest(
        &self,
        backend: &Containerd,
        archive: &[u8],
    ) -> Result<(Image, u64), BackendError> {
        let (image, content) = self.read_one(archive);
        let size = backend.ingest(&image, content).await?;
        Ok((image, size))
    }
}

fn record(content: &ImageContent) -> Image {
    let top = content.layers.last().expect("a layer");
    Image {
        id: content.config.digest.clone(),
        references: content.references.clone(),
        target: content.target.clone(),
        platform: content.platform.clone(),
        content_bytes: 0,
        unpacked_bytes: 0,
        layers: Vec::new(),
        chain_id: top.chain_id.clone(),
        create_time: SystemTime::now(),
        config: Arc::new(content.process.clone()),
        accounts: Arc::new(content.accounts.clone()),
        config_json: Arc::clone(&content.config_json),
    }
}
