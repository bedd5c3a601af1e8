//! Pages of containers and of processes.

use wharf_api::v1;

use super::{parsed, show};
use crate::engine::{Engine, ProcessInfo};
use crate::model::ContainerId;
use crate::transport::page::{self, CreationPlace, More, Page, Paged};
use crate::transport::{CallError, Violations, parse, render};

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
    let page: Page<CreationPlace> = page?;
    let after = page.after.as_ref();
    let after = after
        .map(|place| place.position(ContainerId::from_bytes))
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
            (More::Yes, Some(last)) => {
                let id = last.id.as_bytes();
                page.token(&CreationPlace::of(last.create_time, id, &cursor))
            }
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
