//! The keeper.

pub mod protocol;
pub mod segment;
