//! The `wharf` program against the `wharfd` program, as people and scripts use them.

mod failures;
mod images;
mod inside;
mod lifecycle;
mod limits;
mod look;
mod networks;
mod output;
mod requests;
mod security;

use std::time::Duration;

use crate::harness::wharf::{IMAGE, Told, Wharf, parse, tell, up};

/// No wait of a scenario takes longer.
const LONGEST: Duration = Duration::from_secs(90);
