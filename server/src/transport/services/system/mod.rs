//! `SystemService`.

pub(super) mod capabilities;
mod host;
mod limits;

use std::collections::BTreeMap;
use std::time::SystemTime;

use tonic::{Request, Response, Status};
use wharf_api::v1;
use wharf_api::v1::system_service_server::SystemService;

use super::Setup;
use crate::backend;
use crate::engine::query::ContainerFilter;
use crate::engine::{Engine, Health, Use};
use crate::model::State;
use crate::transport::{CallError, RequestContext, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct System {
    engine: Engine,
    commit: &'static str,
    start_time: SystemTime,
    host: host::Host,
}

impl System {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            engine: setup.engine.clone(),
            commit: setup.commit,
            start_time: setup.start_time,
            host: host::Host::read(),
        }
    }

    /// How many containers are in each state, also where there are none.
    fn containers(&self) -> BTreeMap<String, u32> {
        let name = |state| render::container::state(state).as_str_name().to_owned();
        let mut counts: BTreeMap<_, _> = State::ALL.iter().map(|s| (name(*s), 0)).collect();
        for container in self
            .engine
            .list(&ContainerFilter::default(), None, usize::MAX)
        {
            *counts.entry(name(container.state)).or_default() += 1;
        }
        counts
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_version(
        &self,
        _: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let backend_version = match self.engine.health().backend {
            backend::Status::Connected { version } => version,
            backend::Status::Connecting { .. } | backend::Status::Disconnected { .. } => {
                String::new()
            }
        };
        Ok(Response::new(v1::GetVersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: self.commit.to_owned(),
            api_packages: vec!["wharf.v1".to_owned()],
            backend: self.engine.backend_name().to_owned(),
            backend_version,
        }))
    }

    async fn get_capabilities(
        &self,
        _: Request<v1::GetCapabilitiesRequest>,
    ) -> Result<Response<v1::GetCapabilitiesResponse>, Status> {
        Ok(Response::new(v1::GetCapabilitiesResponse {
            capabilities: capabilities::all(),
            limits: limits::by_name(),
        }))
    }

    async fn get_info(
        &self,
        request: Request<v1::GetInfoRequest>,
    ) -> Result<Response<v1::GetInfoResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let journal = self.engine.journal();
        Ok(Response::new(v1::GetInfoResponse {
            server_id: journal.server_id().to_string(),
            start_time: Some(self.start_time.into()),
            backend: self.engine.backend_name().to_owned(),
            conditions: conditions(&self.engine.health()),
            containers: self.containers(),
            oldest_cursor: journal.cursor(journal.oldest()).to_string(),
            newest_cursor: self.engine.cursor().to_string(),
            kernel: self.host.kernel.clone(),
            architecture: self.host.architecture.clone(),
            cgroup_version: self.host.cgroup_version,
            cpus: self.host.cpus,
            memory_bytes: render::signed(self.host.memory_bytes),
            principal: context.principal.to_string(),
        }))
    }

    async fn get_disk_usage(
        &self,
        _: Request<v1::GetDiskUsageRequest>,
    ) -> Result<Response<v1::GetDiskUsageResponse>, Status> {
        let usage = self.engine.disk_usage().await.map_err(CallError::from)?;
        Ok(Response::new(v1::GetDiskUsageResponse {
            images: Some(disk_usage(usage.images)),
            containers: Some(disk_usage(usage.containers)),
            logs: Some(disk_usage(usage.logs)),
            state: Some(disk_usage(usage.state)),
        }))
    }
}

fn disk_usage(kind: Use) -> v1::DiskUsage {
    v1::DiskUsage {
        count: kind.count,
        size_bytes: render::signed(kind.size_bytes),
        reclaimable_bytes: render::signed(kind.reclaimable_bytes),
    }
}

fn conditions(health: &Health) -> Vec<v1::ServerCondition> {
    let backend = match &health.backend {
        backend::Status::Connected { .. } => Ok("CONNECTED"),
        backend::Status::Connecting { detail } => Err(("CONNECTING", detail.clone())),
        backend::Status::Disconnected { detail } => Err(("DISCONNECTED", detail.clone())),
    };
    // State and journal are one database: what it can write, both can.
    let store = match &health.store {
        None => Ok("WRITABLE"),
        Some(error) => Err((host::store_reason(error), error.to_string())),
    };
    vec![
        condition("BackendReady", backend),
        condition("JournalWritable", store.clone()),
        condition("StorageHealthy", store),
    ]
}

/// One statement: the reason it holds, or the reason and the words why it does not.
fn condition(
    name: &str,
    outcome: Result<&'static str, (&'static str, String)>,
) -> v1::ServerCondition {
    let status = outcome.is_ok();
    let (reason, message) = match outcome {
        Ok(reason) => (reason, String::new()),
        Err(problem) => problem,
    };
    v1::ServerCondition {
        r#type: name.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        transition_time: None,
    }
}
