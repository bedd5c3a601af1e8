//! A typed client of Wharf: connects over a Unix socket or TCP, sends requests with their request
//! id, deadline and trace, repeats calls that are safe to repeat when the server asks for it, and
//! reads watches, waits, logs, statistics and transfers of images on over interruptions, and keeps
//! sessions with processes. [`credentials`] finds what registries ask for where docker keeps it.
//!
//! The messages are those of the API, in [`v1`]. Each RPC has a request type of its own, so
//! [`Client::call`] and [`Client::stream`] know from it which method is meant:
//!
//! ```no_run
//! # async fn run() -> Result<(), wharf_client::Error> {
//! use wharf_client::{Client, ErrorReason};
//! use wharf_client::v1::StopContainerRequest;
//!
//! let client = Client::from_env().await?;
//! let stop = StopContainerRequest { container: "web".into(), ..Default::default() };
//! match client.call(stop).await {
//!     Ok(stopped) => drop(stopped.exit_status),
//!     Err(error) if error.reason() == Some(ErrorReason::ContainerNotFound) => {}
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It does not decide anything by message text of the server, keeps nothing on disk but the credentials
//! that it is told to, and starts no task of its own besides the transport's.

mod address;
mod client;
mod connection;
pub mod credentials;
mod download;
mod error;
mod logs;
mod options;
mod pages;
mod process;
mod resume;
mod retry;
mod rpc;
mod severable;
mod stats;
mod transfer;
mod upload;
mod wait;
mod watch;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, HOST_VARIABLE};
pub use client::{Client, Messages};
pub use download::{Content, Download};
pub use error::{CallError, Error, Violation};
pub use logs::{LogFollow, Logs};
pub use options::{CallOptions, RequestId, RequestIdError, TraceParent, TraceParentError};
pub use pages::{Paged, Pages};
pub use process::{Follow, Input, InputError, InputFate, Output, Session};
pub use retry::{RetryPolicy, is_repeatable};
pub use rpc::{ServerStreaming, Unary};
pub use stats::StatsRounds;
pub use tonic::Code;
pub use transfer::{Transfer, Transferred};
pub use upload::Upload;
pub use watch::EventWatch;
pub use wharf_api::{ErrorReason, v1};
