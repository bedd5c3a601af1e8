//! What goes along with a pull or a push for the registry, from docker's configuration.

use wharf_client::Client;
use wharf_client::credentials::{CredentialsError, DockerConfig, Keeper, registry_of};
use wharf_client::v1::{GetImageRequest, PullOptions, PullPolicy, RegistryAuth};

use super::output::Output;

/// The credentials for the registry of `image`. What keeps them from being found is a warning: many
/// registries ask for none, and one that does says so itself.
pub(crate) async fn registry_auth(image: &str, output: &mut Output) -> Option<RegistryAuth> {
    let registry = registry_of(image);
    let found = async { DockerConfig::from_env()?.get(registry).await };
    match found.await {
        Ok(auth) => auth,
        // Somebody without a home has no configuration either.
        Err(CredentialsError::NoHome) => None,
        Err(error) => {
            output.warning(&format!(
                "going on without credentials of {registry}: {error}"
            ));
            None
        }
    }
}

/// Adds credentials to what may become a pull. A helper takes time and may ask people, so it is left alone
/// as long as the image is here.
pub(crate) async fn add_registry_auth(
    pull: &mut PullOptions,
    image: &str,
    client: &Client,
    output: &mut Output,
) {
    let pulls = match pull.policy() {
        PullPolicy::Unspecified | PullPolicy::Never => false,
        PullPolicy::Always => true,
        PullPolicy::IfMissing => !(has_helper(image).await && is_here(image, client).await),
    };
    if pulls {
        pull.auth = registry_auth(image, output).await;
    }
}

async fn has_helper(image: &str) -> bool {
    let keeper = async { DockerConfig::from_env()?.keeper(registry_of(image)).await };
    matches!(keeper.await, Ok(Keeper::Helper(_)))
}

async fn is_here(image: &str, client: &Client) -> bool {
    let get = GetImageRequest {
        image: image.to_owned(),
    };
    client.call(get).await.is_ok()
}
