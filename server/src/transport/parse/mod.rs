//! Requests into domain values.
//!
//! A parser notes everything that is wrong with a request in [`Violations`], with the path of each
//! field, and goes on; what it returns is used only if there were none. It checks form: what can be
//! known from the request alone. It must not look at containers, images or the host.
//!
//! Options that no backend has yet are noted as unsupported: they are never ignored.
//!
//! [`Violations`]: crate::transport::Violations

pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod exec;
mod field;
pub(crate) mod file;
mod filter;
mod health;
pub(crate) mod idempotency;
pub(crate) mod image;
mod labels;
mod later;
pub(crate) mod log;
mod mounts;
pub(crate) mod name;
mod path;
mod process;
mod resources;
mod security;
pub(crate) mod spec;
pub(crate) mod stats;
pub(crate) mod stdio;
mod text;
mod time;
pub(crate) mod update;

#[cfg(test)]
mod tests;

pub(crate) use field::{Field, reason};
