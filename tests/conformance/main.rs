//! What every backend must show: one module for each group of scenarios about containers' behaviour.
//!
//! `WHARF_TEST_BACKEND` says which backend the servers of a run have. Each scenario has a server of its
//! own in a directory of its own, so all of them run side by side, and each fails if it leaves anything
//! behind (see `harness`). What a scenario asks of one backend alone, it says by `containerd_only`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say on stderr what they found"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; pub marks what a module offers to the others"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod attach;
mod chaos;
mod disconnect;
mod exec;
mod exec_races;
mod files;
mod images;
mod init;
mod input;
mod isolation;
mod lifecycle;
mod logs;
mod registry;
mod request_ids;
mod stats;
mod stream_faults;
mod streams;
mod terminal;
