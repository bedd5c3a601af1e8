//! Deleting what is over, one container at a time.

use futures_util::{StreamExt, stream};
use wharf_api::v1;

use crate::engine::query::ContainerFilter;
use crate::engine::{DeleteContainer, Engine, Error};
use crate::model::{Cause, ContainerId};
use crate::transport::CallError;
use crate::transport::services::{Answers, PruneMode};

/// A prune for one caller. It goes on only as long as the caller reads; each deletion that has begun
/// is finished all the same.
#[derive(Debug, Clone)]
pub(super) struct Prune {
    pub(super) engine: Engine,
    pub(super) cause: Cause,
    pub(super) mode: PruneMode,
}

impl Prune {
    /// Reports each container that was deleted, or would be.
    pub(super) fn run(self, filter: &ContainerFilter) -> Answers<v1::PruneContainersResponse> {
        let ids = self.engine.prunable(filter);
        let reports = stream::iter(ids).filter_map(move |id| {
            let prune = self.clone();
            async move {
                let report = prune.one(id).await.transpose()?;
                Some(report.map_err(Into::into))
            }
        });
        Box::pin(reports)
    }

    async fn one(&self, id: ContainerId) -> Result<Option<v1::PruneContainersResponse>, CallError> {
        let container_id = id.to_string();
        let bytes = self.engine.root_bytes(id).await;
        if self.mode == PruneMode::Delete && !self.delete(&container_id).await? {
            return Ok(None);
        }
        Ok(Some(v1::PruneContainersResponse {
            container_id,
            reclaimed_bytes: i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX),
        }))
    }

    /// False if it is no longer there, or no longer over: somebody else was faster.
    async fn delete(&self, id: &str) -> Result<bool, CallError> {
        let deleted = self
            .engine
            .delete(self.cause.clone(), id, DeleteContainer::default())
            .await;
        match deleted {
            Ok(()) => Ok(true),
            Err(
                Error::ContainerNotFound { .. }
                | Error::StillRunning { .. }
                | Error::OperationInProgress { .. }
                | Error::DeletedConcurrently { .. },
            ) => Ok(false),
            Err(error) => Err(CallError::of(id)(error)),
        }
    }
}
