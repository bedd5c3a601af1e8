//! Writes to a process's stdin that are done once, however often they are asked for.
//!
//! ```text
//! turn ──► BEGUN stored ──► written, with its caller or without ──► DONE stored, answered
//!                  └──► the server ends: what was written is not known, a repeat is refused
//! ```
//!
//! At most once: a byte too many is worse than a refusal. A write ends when all is written, or with the
//! process, its input or the server. Until then the next one waits for its turn, in its own caller's time, so
//! that a process which does not read costs one message that nobody waits for.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Subject, open_input, write};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::idempotency::Claim;
use crate::model::RequestId;
use crate::stdio::Stream;
use crate::store::{Change, Durability, StoreError, Transaction};

/// The answer that is stored of a write: the call that has begun it, as long as it is not known to be done.
pub(in crate::engine) type Begun = Option<RequestId>;

/// What to write.
#[derive(Debug)]
pub(in crate::engine) struct Once {
    pub(in crate::engine) claim: Claim,
    pub(in crate::engine) request_id: RequestId,
    pub(in crate::engine) subject: Subject,
    pub(in crate::engine) data: Bytes,
    pub(in crate::engine) close: bool,
}

impl Once {
    /// Writes it; returns when all of it is written.
    pub(in crate::engine) async fn write(self, core: &Arc<Core>) -> Result<Begun, Error> {
        let turn = self.subject.stream(core).turn().await;
        let stream = open_input(core, &self.subject).await?;
        let (told, written) = oneshot::channel();
        let owner = core.clone();
        core.spawn(async move {
            let done = self.begin(&owner, &stream).await;
            drop(turn);
            // Whoever asked may have left.
            drop(told.send(done.map(|()| None)));
        });
        written.await.unwrap_or(Err(Error::Draining))
    }

    async fn begin(self, core: &Core, stream: &Stream) -> Result<(), Error> {
        let Self {
            mut claim,
            request_id,
            subject,
            data,
            close,
        } = self;
        let is_empty = data.is_empty();
        let begun = claim.answered::<Begun>(&Some(request_id))?;
        store(core, begun).await?;
        let written = write(core, &subject, stream, data, close);
        match core.shutdown.run_until_cancelled(written).await {
            None => Err(Error::Draining),
            Some(Ok(())) => {
                let done = claim.answered::<Begun>(&None)?;
                if let Err(error) = store(core, done).await {
                    tracing::error!(%error, "a write that is done will be refused to the next server's callers");
                }
                claim.complete();
                Ok(())
            }
            // It takes nothing more, from nobody; or nothing was written, and it is not closed.
            Some(Err(error)) if is_empty || !stream.is_input_open() => {
                drop(store(core, claim.given_back()).await);
                Err(error)
            }
            Some(Err(error)) => {
                claim.complete();
                Err(error)
            }
        }
    }
}

async fn store(core: &Core, change: Change) -> Result<(), StoreError> {
    let transaction = Transaction {
        changes: vec![change],
        events: Vec::new(),
        durability: Durability::Written,
        on_commit: None,
    };
    core.store.commit(transaction).await.map(drop)
}
