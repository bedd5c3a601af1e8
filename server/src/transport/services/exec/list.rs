//! Pages of execs.

use wharf_api::v1;

use crate::engine::Engine;
use crate::model::ExecId;
use crate::transport::page::{self, CreationPlace, More, Page};
use crate::transport::parse::Field;
use crate::transport::services::{About, parsed, parsed_about};
use crate::transport::{CallError, Violations, render};

/// One page of the execs of a container, or of all.
pub(super) fn execs(
    engine: &Engine,
    request: &v1::ListExecsRequest,
) -> Result<v1::ListExecsResponse, CallError> {
    let container = (!request.container.is_empty()).then_some(request.container.as_str());
    let page = |out: &mut Violations| Page::<CreationPlace>::of(request, out);
    let page = match container {
        Some(key) => {
            let field = Field::new("container");
            parsed_about(engine, About::Container(key), &field, page)??
        }
        None => parsed(engine, page)??,
    };
    let after = page.after.as_ref();
    let after = after
        .map(|place| place.position(ExecId::from_bytes))
        .transpose()?;
    // Before the snapshots are read: what changes in between is seen twice rather than not at all.
    let cursor = match &page.after {
        Some(place) => place.cursor.clone(),
        None => engine.cursor().to_string(),
    };
    // One more than fits tells whether there is another page.
    let found = engine.execs(container, after, page.size + 1)?;
    let shown = found.iter().map(|exec| render::exec::exec(exec));
    let (execs, more) = page::fill(shown, page.size);
    let last = execs.len().checked_sub(1).and_then(|n| found.get(n));
    Ok(v1::ListExecsResponse {
        next_page_token: match (more, last) {
            (More::Yes, Some(last)) => {
                let id = last.id.as_bytes();
                page.token(&CreationPlace::of(last.create_time, id, &cursor))
            }
            (More::No, _) | (_, None) => String::new(),
        },
        execs,
        cursor,
    })
}
