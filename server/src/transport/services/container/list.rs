//! Pages of containers and of processes.

use std::time::{Duration, SystemTime};

use wharf_api::v1;

use super::{parsed, show};
use crate::engine::query::Position;
use crate::engine::{Engine, ProcessInfo};
use crate::model::{Container, ContainerId};
use crate::transport::page::{self, More, Page, Paged};
use crate::transport::{CallError, Violations, parse, render};

/// Where a page of containers ended.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerPlace {
    /// Its last container's time of creation, since the epoch.
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
    /// Its last container's id.
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    /// The event cursor of the moment the first page was read.
    #[prost(string, tag = "4")]
    cursor: String,
}

impl ContainerPlace {
    fn after(container: &Container, cursor: &str) -> Self {
        let age = container
            .create_time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            seconds: age.as_secs(),
            nanos: age.subsec_nanos(),
            id: container.id.as_bytes().to_vec(),
            cursor: cursor.to_owned(),
        }
    }

    fn position(&self) -> Result<Position, CallError> {
        let id = self.id.as_slice().try_into();
        let create_time =
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(self.seconds, self.nanos));
        match (id, create_time) {
            (Ok(id), Some(create_time)) => Ok(Position {
                create_time,
                id: ContainerId::from_bytes(id),
            }),
            (Err(_), _) | (_, None) => Err(CallError::PageTokenInvalid),
        }
    }
}

/// Where a page of processes ended.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProcessPlace {
    #[prost(uint32, tag = "1")]
    pid: u32,
}

/// One page of containers.
pub(super) fn containers(
    engine: &Engine,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, CallError> {
    let (page, (filter, view)) = parsed(engine, |out| {
        (page(&request, out), parse::container::list(request, out))
    })?;
    let page: Page<ContainerPlace> = page?;
    let after = page
        .after
        .as_ref()
        .map(ContainerPlace::position)
        .transpose()?;
    // Before the snapshots are read: what changes in between is seen twice rather than not at all.
    let cursor = match &page.after {
        Some(place) => place.cursor.clone(),
        None => engine.cursor().to_string(),
    };
    // One more than fits tells whether there is another page.
    let found = engine.list(&filter, after, page.size + 1);
    let shown = found.iter().map(|container| show(engine, container, view));
    let (containers, more) = page::fill(shown, page.size);
    let last = containers.len().checked_sub(1).and_then(|n| found.get(n));
    Ok(v1::ListContainersResponse {
        next_page_token: match (more, last) {
            (More::Yes, Some(last)) => page.token(&ContainerPlace::after(last, &cursor)),
            (More::No, _) | (_, None) => String::new(),
        },
        containers,
        cursor,
    })
}

/// Which page is asked for; a token that is no good matters only if nothing else is wrong.
pub(super) fn page<R: Paged, P: prost::Message + Default>(
    request: &R,
    out: &mut Violations,
) -> Result<Page<P>, CallError> {
    Page::of(request, out)
}

/// One page of `processes`, which are ordered by pid.
pub(super) fn processes(
    processes: Vec<ProcessInfo>,
    page: &Page<ProcessPlace>,
) -> v1::ListContainerProcessesResponse {
    let seen = page.after.as_ref().map(|place| place.pid);
    let shown = processes
        .into_iter()
        .filter(|process| seen.is_none_or(|pid| process.pid > pid))
        .map(render::container::process);
    let (processes, more) = page::fill(shown, page.size);
    v1::ListContainerProcessesResponse {
        next_page_token: match (more, processes.last()) {
            (More::Yes, Some(last)) => page.token(&ProcessPlace { pid: last.pid }),
            (More::No, _) | (_, None) => String::new(),
        },
        processes,
    }
}
