//! Images: looked up in memory, so that creating a container asks nobody; changed one at a time.

mod export;
mod import;
mod index;
mod prune;
mod pull;
mod references;
mod remarks;
mod sizes;

pub use export::Export;
pub(crate) use import::clear_scratch;
pub(crate) use index::{Images, normalized};
pub(crate) use pull::Pulls;
pub use pull::{LayerPhase, LayerProgress, PullImage, PullNews, Pulled, Pulling, TransferProgress};
pub use remarks::Remark;
pub(super) use sizes::usage;
