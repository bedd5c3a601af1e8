//! The real server, a real containerd, real clients: one module for each group of scenarios.
//!
//! Each scenario has a containerd and a `wharfd` of its own in a directory of its own, so all of them
//! run side by side, and each fails if it leaves anything behind (see `harness`).
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

#[path = "../shared/error_table.rs"]
mod error_table;
mod exec_races;
mod harness;
mod proxy;

mod attach;
mod bad_input;
mod chaos;
mod cli;
mod cli_wharfd;
mod clients;
mod disconnect;
mod examples;
mod exec;
mod files;
mod harness_works;
mod input;
mod lifecycle;
mod local;
mod logs;
mod outage;
mod reasons;
mod request_ids;
mod rpc_budget;
mod stream_faults;
mod streams;
mod streams_cli;
mod terminal;
mod tracing;
