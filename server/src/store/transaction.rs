//! What can be written: changes and the events that announce them, as one transaction.

use std::sync::Arc;
use std::time::SystemTime;

use crate::model::request::IdempotencyKey;
use crate::model::{
    Container, ContainerId, Digest, Exec, ExecId, ExitStatus, Image, NewEvent, RequestId, Sequence,
};

/// What is known of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// SHA-256 of the request.
    pub request_digest: [u8; 32],
    /// The first call that used it.
    pub request_id: RequestId,
    /// When that was.
    pub time: SystemTime,
    /// The container the call acts on; for a create, the one it makes.
    pub container: Option<ContainerId>,
    /// The stored answer, opaque to the store; `None` while the call is under way.
    pub answer: Option<Arc<[u8]>>,
}

/// One change to the durable state.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes a container's record.
    PutContainer(Arc<Container>),
    /// Writes the end of a run; beyond [`RUNS_KEPT`](crate::model::limits::RUNS_KEPT) the oldest goes.
    PutRun(ContainerId, Arc<ExitStatus>),
    /// Removes a container with its execs; its last record stays readable among the deleted ones.
    DeleteContainer(Arc<Container>, SystemTime),
    /// Removes a container that was never acknowledged, without a trace.
    ForgetContainer(ContainerId),
    /// Writes an exec.
    PutExec(Arc<Exec>),
    /// Removes an exec.
    DeleteExec(ExecId),
    /// Writes an image, by id.
    PutImage(Arc<Image>),
    /// Removes an image.
    DeleteImage(Digest),
    /// Writes an idempotency key.
    PutIdempotency(IdempotencyKey, IdempotencyRecord),
    /// Removes an idempotency key: its call changed nothing.
    ForgetIdempotency(IdempotencyKey),
    /// Removes deleted containers and idempotency keys older than these times, and keys beyond
    /// [`IDEMPOTENCY_ENTRIES`](crate::model::limits::IDEMPOTENCY_ENTRIES).
    Expire {
        /// Deleted containers from before go.
        deleted_before: SystemTime,
        /// Keys from before go.
        idempotency_before: SystemTime,
    },
}

/// When a commit must have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the answer: what a caller asked for. Survives a power cut.
    Synced,
    /// Written before the answer (it survives the death of the server), on disk soon after: what was
    /// observed.
    Written,
}

/// Changes and events that become true together.
#[must_use]
pub struct Transaction {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// The events that announce them, in order.
    pub events: Vec<NewEvent>,
    /// When it must have reached the disk.
    pub durability: Durability,
    /// Runs on the writer's thread after the commit and before its events can be seen. Must be quick.
    pub on_commit: Option<Box<dyn FnOnce(Committed) + Send>>,
}

/// Where a transaction's events ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The newest event in the journal after this transaction; its own last one if it had any.
    pub last: Sequence,
}
