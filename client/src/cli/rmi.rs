//! `wharf rmi`.

use clap::Args;
use wharf_client::v1::DeleteImageRequest;

use super::each::each;
use super::failure::Failure;
use super::human::familiar;
use super::session::Session;

/// Remove references, and images with their last one
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// All references of an id, even if containers use it; none is no error
    #[arg(short, long)]
    force: bool,
    /// References, digests, or ids, whole or their first 12 or more digits
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let force = self.force;
        each(self.images, session, |client, image| async move {
            let request = DeleteImageRequest {
                image,
                force,
                allow_missing: force,
            };
            let removed = client.call(request).await?;
            let untagged = removed.untagged.iter();
            let deleted = removed.deleted.iter();
            Ok(untagged
                .map(|reference| format!("Untagged: {}", familiar(reference)))
                .chain(deleted.map(|digest| format!("Deleted: {digest}")))
                .collect())
        })
        .await
    }
}
