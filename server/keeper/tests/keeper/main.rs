//! The keeper as it runs: a real process, real FIFOs, real children.

mod harness;
mod lifetime;
mod misuse;
mod output;
mod trouble;
mod upgrade;
