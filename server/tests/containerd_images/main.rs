//! Images in a real containerd, which each test starts for itself. Needs root, containerd, ctr, runc and a
//! static busybox.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod archive;
mod daemon;
mod ingest;
mod names;
