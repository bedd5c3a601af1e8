//! The containerd backend on a real containerd, which each test starts for itself. Needs root,
//! containerd, runc and a static busybox.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the harness waits for other processes, also where no runtime is: it polls"
)]

mod calls;
mod exits;
mod harness;
mod image;
mod images;
mod leftovers;
mod lifecycle;
mod outages;
mod refusals;
