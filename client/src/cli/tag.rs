//! `wharf tag`.

use clap::Args;
use wharf_client::v1::TagImageRequest;

use super::failure::Failure;
use super::session::Session;

/// Give an image one more reference
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Reference, digest or id
    image: String,
    /// New reference; one that another image has is refused
    reference: String,
}

impl Tag {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let request = TagImageRequest {
            image: self.image,
            reference: self.reference,
        };
        session.connect().await?.call(request).await?;
        Ok(())
    }
}
