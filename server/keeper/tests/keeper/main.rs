//! The keeper as it runs: a real process, real FIFOs, real children. Each scenario has a keeper in a
//! directory of its own, so all of them run side by side.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod harness;
mod lifetime;
mod misuse;
mod output;
mod trouble;
mod upgrade;
