//! Giving a container its next name after a start whose end nobody saw, and clearing away what is
//! left under earlier names. [`super::name`] says why.

use std::time::{Duration, SystemTime};

use super::containers;
use super::discard::discard;
use super::find::Listed;
use super::name::Name;
use super::{Containerd, RuntimeOptions};
use crate::backend::BackendError;
use crate::model::Container;

/// For how long after a renaming containerd may still be at work under the earlier name. It gives its
/// own clearing up 5 s, and a task needs its record to be removed.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Removes whatever task there is, and records the container under its next name: three calls if
/// there is none. Repeating it is OK.
pub(super) async fn rename(
    backend: &Containerd,
    container: &Container,
) -> Result<(), BackendError> {
    let name = backend.name(container.id).await?;
    discard(backend, name).await?;
    containers::record_again(backend, container, name.next()).await?;
    backend.names().take(name.next());
    tracing::info!(container = %container.id, name = %name.next(), "the container has another name in containerd");
    Ok(())
}

/// What the runtime is to be told of a container that is started under `name`.
pub(super) fn options(backend: &Containerd, name: Name) -> RuntimeOptions {
    RuntimeOptions {
        cgroup_name: Some(name.to_string()),
        ..backend.spec_options().clone()
    }
}

/// Removes what is left under earlier names. What fails is tried again with the next inventory.
pub(super) async fn clear_earlier(backend: &Containerd, listed: &[Listed]) {
    for earlier in listed {
        let current = backend.names().of(earlier.name.id());
        let replaced = listed.iter().find(|listed| listed.name == current);
        let is_settled = replaced.is_some_and(|listed| is_long_ago(listed.created));
        let is_earlier = current.earlier().any(|name| name == earlier.name);
        if is_earlier && is_settled {
            clear(backend, earlier.name).await;
        }
    }
}

async fn clear(backend: &Containerd, name: Name) {
    match remove(backend, name).await {
        Ok(()) => tracing::debug!(%name, "an earlier name was cleared"),
        Err(error) => tracing::warn!(%name, %error, "an earlier name is not cleared yet"),
    }
}

/// Removes the task and the record of a name: three calls.
pub(super) async fn remove(backend: &Containerd, name: Name) -> Result<(), BackendError> {
    discard(backend, name).await?;
    containers::remove_record(backend, name).await
}

/// A time in the future, of a clock that was set back, is not long ago.
fn is_long_ago(time: SystemTime) -> bool {
    let age = SystemTime::now().duration_since(time);
    age.is_ok_and(|age| age >= SETTLED_AFTER)
}
