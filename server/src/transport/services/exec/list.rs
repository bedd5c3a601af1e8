//! Pages of execs.

use std::time::{Duration, SystemTime};

use wharf_api::v1;

use crate::engine::Engine;
use crate::engine::exec::ExecPosition;
use crate::model::{Exec, ExecId};
use crate::transport::page::{self, More, Page};
use crate::transport::parse::Field;
use crate::transport::services::{About, parsed, parsed_about};
use crate::transport::{CallError, Violations, render};

/// Where a page of execs ended.
#[derive(Clone, PartialEq, prost::Message)]
struct ExecPlace {
    /// Its last exec's time of creation, since the epoch.
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
    /// Its last exec's id.
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    /// The event cursor of the moment the first page was read.
    #[prost(string, tag = "4")]
    cursor: String,
}

impl ExecPlace {
    fn after(exec: &Exec, cursor: &str) -> Self {
        let age = exec
            .create_time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            seconds: age.as_secs(),
            nanos: age.subsec_nanos(),
            id: exec.id.as_bytes().to_vec(),
            cursor: cursor.to_owned(),
        }
    }

    fn position(&self) -> Result<ExecPosition, CallError> {
        let id = self.id.as_slice().try_into();
        let create_time =
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(self.seconds, self.nanos));
        match (id, create_time) {
            (Ok(id), Some(create_time)) => Ok(ExecPosition {
                create_time,
                id: ExecId::from_bytes(id),
            }),
            (Err(_), _) | (_, None) => Err(CallError::PageTokenInvalid),
        }
    }
}

/// One page of the execs of a container, or of all.
pub(super) fn execs(
    engine: &Engine,
    request: &v1::ListExecsRequest,
) -> Result<v1::ListExecsResponse, CallError> {
    let container = (!request.container.is_empty()).then_some(request.container.as_str());
    let page = |out: &mut Violations| Page::<ExecPlace>::of(request, out);
    let page = match container {
        Some(key) => {
            let field = Field::new("container");
            parsed_about(engine, About::Container(key), &field, page)??
        }
        None => parsed(engine, page)??,
    };
    let after = page.after.as_ref().map(ExecPlace::position).transpose()?;
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
            (More::Yes, Some(last)) => page.token(&ExecPlace::after(last, &cursor)),
            (More::No, _) | (_, None) => String::new(),
        },
        execs,
        cursor,
    })
}
