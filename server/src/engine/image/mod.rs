//! Images: looked up in memory, so that creating a container asks nobody; changed one at a time.

mod export;
mod import;
mod index;
mod manifest;
mod prune;
mod pull;
mod push;
mod references;
mod remarks;
mod sizes;
mod transfer;

pub use export::Export;
pub(crate) use import::clear_scratch;
pub(crate) use index::{Images, normalized};
pub(crate) use pull::Pulls;
pub use pull::{PullImage, PullNews, Pulled, Pulling};
pub use push::{PushImage, Pushing};
pub use remarks::Remark;
pub(super) use sizes::usage;
pub use transfer::{LayerPhase, LayerProgress, News, TransferProgress};
