//! Pulls from a registry that refuses or misbehaves.

use crate::harness::registry::{Access, At, Fault, FaultProxy, PASSWORD, Registry, credentials};
use crate::harness::{Client, Refusal, Wharfd};

/// A host whose settings are none.
const MISCONFIGURED: &str = "misconfigured.test";

/// An empty registry that wants credentials, behind a proxy that is where the server looks for it.
pub struct Behind {
    _registry: Registry,
    pub proxy: FaultProxy,
}

impl Behind {
    pub async fn start(wharfd: &Wharfd) -> Self {
        let registry = Registry::start(Access::Password).await;
        let proxy = FaultProxy::start(registry.address()).await;
        proxy.known_to(wharfd);
        wharfd.tell_of_registry(MISCONFIGURED, "server = 5\n");
        Self {
            _registry: registry,
            proxy,
        }
    }

    async fn refuses(&self, client: &Client, fault: Fault) -> Refusal {
        self.proxy.fail(At::Manifests, fault);
        let image = self.proxy.reference("app:1");
        client.pull(&image).await.unwrap_err()
    }
}

pub async fn image_not_found(client: &Client, behind: &Behind) -> Refusal {
    let image = behind.proxy.reference("app:1");
    let right = credentials(PASSWORD);
    client.pull_by(&image, right).await.unwrap_err()
}

pub async fn auth_failed(client: &Client, behind: &Behind) -> Refusal {
    let image = behind.proxy.reference("app:1");
    let wrong = credentials("another password");
    client.pull_by(&image, wrong).await.unwrap_err()
}

pub async fn rate_limited(client: &Client, behind: &Behind) -> Refusal {
    behind.refuses(client, Fault::TooMany(Some(3_600))).await
}

pub async fn unavailable(client: &Client, behind: &Behind) -> Refusal {
    behind.refuses(client, Fault::Cut).await
}

pub async fn response_invalid(client: &Client, behind: &Behind) -> Refusal {
    let page = Fault::Instead("text/html", "<html>sign in</html>".into());
    behind.refuses(client, page).await
}

pub async fn settings_invalid(client: &Client, _: &Behind) -> Refusal {
    let image = format!("{MISCONFIGURED}/app:1");
    client.pull(&image).await.unwrap_err()
}
