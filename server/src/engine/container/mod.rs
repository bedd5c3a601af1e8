//! One container: its pure policy, and the actor that owns it.
//!
//! The actor is the only writer of a container's state. It never blocks on the backend: at most one
//! operation is in flight, and commands, exits and timers are taken meanwhile. Each file here holds
//! one kind of command from its acceptance to its answer.

pub(crate) mod actor;
pub(crate) mod command;
mod control;
pub(crate) mod create;
mod decide;
mod delete;
pub(crate) mod execs;
mod exit;
pub(crate) mod lend;
pub mod policy;
mod record;
mod settle;
pub(crate) mod start;
mod stop;
mod streams;
pub(crate) mod update;

pub(super) use stop::stop_signal;
