//! What scenarios stand on: a real `wharfd` on the backend of this run, a client, an image made on the spot,
//! and the proof that nothing is left of any of them.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part of what they share"
)]

pub mod backend;
pub mod binaries;
pub mod client;
pub mod containerd;
pub mod direct;
#[path = "../shared/error_table.rs"]
pub mod error_table;
pub mod events;
pub mod files;
pub mod image;
pub mod keeper;
mod kept;
pub mod leaks;
pub mod process;
pub mod proxy;
pub mod refusal;
pub mod registry;
pub mod spec;
pub mod streams;
pub mod tier;
pub mod tree;
pub mod wait;
pub mod wharf;
pub mod wharfd;
mod world;

pub use backend::Backend;
pub use client::Client;
pub use kept::Kept;
pub use refusal::Refusal;
pub use wait::until;
pub use wharfd::{Options, Wharfd};
pub use world::{World, by_wharf_alone, containerd_only, not_by_crun, not_by_runc, scenario};
