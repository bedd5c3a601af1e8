//! What the server and its backend keep, whatever the API says of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::containerd::Containerd;
use super::wait::{so, until};
use super::{Backend, World};

/// What nobody needs goes a moment later.
const SETTLED: Duration = Duration::from_secs(60);
/// Where the local backend has images; made before it serves.
const IMAGES: &[&str] = &[
    "local/content/blobs/sha256",
    "local/incoming",
    "local/layers",
    "local/names",
    "local/trash",
];
/// Where the server has what comes in; each made when it is first needed.
const COMING_IN: &[&str] = &["scratch", "spool", DOWNLOADS];
const DOWNLOADS: &str = "downloads";

/// What is kept of images.
#[derive(Debug)]
pub struct Kept {
    by_the_backend: BTreeSet<String>,
    coming_in: BTreeSet<String>,
}

impl World {
    /// Everything that the backend has, but for leases, which are taken and given back, and what containers write,
    /// which is not the server's.
    pub async fn in_backend(&self) -> BTreeSet<String> {
        match Backend::of_this_run() {
            Backend::Containerd => in_containerd(&self.containerd).await,
            Backend::Local | Backend::LocalBy(_) => {
                let mut all = BTreeSet::new();
                files_below(&self.wharfd.state_dir().join("local"), &mut all);
                all
            }
        }
    }

    /// To be compared with what is kept later.
    pub async fn kept(&self) -> Kept {
        let state = self.wharfd.state_dir();
        let by_the_backend = match Backend::of_this_run() {
            Backend::Containerd => {
                collect_garbage(&self.containerd).await;
                let mut all = in_containerd(&self.containerd).await;
                all.extend(self.containerd.ctr(&["leases", "list", "-q"]).await);
                all
            }
            Backend::Local | Backend::LocalBy(_) => {
                let places = IMAGES.iter().map(|place| state.join(place));
                places.flat_map(|place| names_in(&place)).collect()
            }
        };
        let places = COMING_IN.iter().map(|place| state.join(place));
        let there = places.filter(|place| place.exists());
        Kept {
            by_the_backend,
            coming_in: there.flat_map(|place| names_in(&place)).collect(),
        }
    }

    /// Fails if something is kept that was not before, after `what`.
    pub async fn nothing_is_left(&self, before: &Kept, what: &str) {
        self.left(before, what, |_| true).await;
    }

    /// The same, but for downloads, which the next pull may go on with.
    pub async fn only_downloads_are_left(&self, before: &Kept, what: &str) {
        let downloads = self.wharfd.state_dir().join(DOWNLOADS);
        self.left(before, what, |path| {
            !Path::new(path).starts_with(&downloads)
        })
        .await;
    }

    async fn left(&self, before: &Kept, what: &str, counts: impl Fn(&str) -> bool) {
        until("nothing is left", SETTLED, async || {
            let now = self.kept().await;
            let in_backend = now.by_the_backend.difference(&before.by_the_backend);
            let coming_in = now.coming_in.difference(&before.coming_in);
            let mut left: Vec<_> = in_backend.chain(coming_in).collect();
            left.retain(|one| counts(one));
            so(left.is_empty(), || format!("{what}: {left:?}"))
        })
        .await;
    }
}

async fn in_containerd(containerd: &Containerd) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in ["containers", "tasks", "images", "snapshots"] {
        all.extend(containerd.ctr(&[kind, "list"]).await);
    }
    // In full it says how old each is.
    all.extend(containerd.ctr(&["content", "list", "-q"]).await);
    all
}

/// Left to itself, containerd waits for more of it. A lease that goes while somebody waits is what makes it collect.
async fn collect_garbage(containerd: &Containerd) {
    let lease = containerd.ctr(&["leases", "create"]).await.concat();
    let delete = ["leases", "delete", "--sync", &lease];
    containerd.ctr(&delete).await;
}

/// The whole paths of what a directory has.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let path = |entry: fs::DirEntry| entry.path().display().to_string();
    entries.flatten().map(path).collect()
}

fn files_below(directory: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("upper") {
            files_below(&path, all);
        }
        all.insert(path.display().to_string());
    }
}
