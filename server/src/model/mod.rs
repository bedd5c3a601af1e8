//! The vocabulary of the domain: values without behaviour of their own beyond parsing and showing
//! themselves. Every layer may use it; it uses none of them.

pub mod container;
pub mod errno;
pub mod event;
pub mod exec;
pub mod failure;
pub mod id;
pub mod image;
pub mod limits;
pub mod opaque;
pub mod request;
#[cfg(test)]
pub(crate) mod samples;
pub mod signal;
pub mod spec;
pub mod stdio;
pub mod usage;

pub use container::{Container, ExitReason, ExitStatus, State};
pub use event::{Event, EventKind, NewEvent};
pub use exec::{Exec, ExecSpec, ExecState};
pub use failure::{Failure, LaunchFailure, PullFailure};
pub use id::{ContainerId, Epoch, ExecId, InvalidId, Run, Sequence, ServerId};
pub use image::{Digest, Image};
pub use request::{Cause, Principal, RequestId};
pub use signal::Signal;
pub use spec::ContainerSpec;
pub use stdio::{OnDisconnect, OutputStream, StdioPaths, TerminalSize};
pub use usage::{NetworkUsage, Usage};
