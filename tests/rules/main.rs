//! Rules of the project that need no server: which way its modules point, what the API promises, and
//! that the documents say what the code does.
//!
//! Checked-in texts are rewritten by `WHARF_UPDATE=1 cargo test --test rules`; the diff is the review.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; pub marks what a module offers to the others"
)]

mod api;
mod checked_in;
#[path = "../shared/error_table.rs"]
mod error_table;
mod errors;
mod exclusions;
mod layering;
mod limits;
mod source;
