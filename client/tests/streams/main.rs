//! The command line's streams and transfers against a scripted server: bytes, terminals, signals, exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod images;
mod logs;
mod pipes;
mod replies;
mod terminals;
#[allow(dead_code, reason = "the library's own tests use the rest")]
#[path = "../../src/testing.rs"]
mod testing;
mod wharf;

// For `testing`, which is also a module of the library.
use wharf_client::{Address, Client};
