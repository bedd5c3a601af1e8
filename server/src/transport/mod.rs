//! The edge: listeners, the HTTP/2 server, the layers around every call, and the map from errors to
//! statuses. tonic, tower and hyper live here and nowhere else (the containerd backend's client aside).
//!
//! The server is hyper's, not tonic's: tonic's own timeout answers outside of all layers, and its
//! graceful shutdown waits for streams without limit and leaves connections as detached tasks.

mod authority;
mod connection;
pub mod context;
mod details;
pub mod error;
pub mod gate;
pub mod layers;
pub mod listener;
mod page;
mod parse;
mod reason;
mod render;
pub mod server;
pub mod services;
pub mod status;

pub use context::RequestContext;
pub use error::{CallError, Violation, ViolationKind, Violations};
pub use gate::{Gate, Phase};
pub use listener::{Address, ListenError, Listener};
pub use server::{Drained, ServeOptions, serve};
