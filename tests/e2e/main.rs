//! The programs as their users meet them: the command line, other languages' clients, errors and their
//! reasons, bad input, traces, and what only containerd has. The behaviour of containers is in
//! `tests/conformance`.
//!
//! Each scenario has a `wharfd`, and a containerd if that is its backend, of its own in a directory of its
//! own, so all of them run side by side, and each fails if it leaves anything behind (see `harness`).
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

mod bad_input;
mod cli;
mod cli_wharfd;
mod clients;
mod examples;
mod harness_works;
mod local;
mod outage;
mod reasons;
mod rpc_budget;
mod streams_cli;
mod tracing;
