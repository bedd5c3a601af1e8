//! Services with bugs, behind the server's own layers.

use std::path::Path;

use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wharf_api::v1::system_service_server::{SystemService, SystemServiceServer};
use wharf_api::v1::{
    GetCapabilitiesRequest, GetCapabilitiesResponse, GetDiskUsageRequest, GetDiskUsageResponse,
    GetInfoRequest, GetInfoResponse, GetVersionRequest, GetVersionResponse,
};

use super::in_process::InProcess;
use crate::harness::{Client, Refusal};

/// Nothing about it works.
#[derive(Debug)]
struct Broken;

#[tonic::async_trait]
impl SystemService for Broken {
    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        panic!("as planned")
    }

    /// As tonic answers when it notices that the caller has left.
    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        Err(Status::cancelled(""))
    }

    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Err(Status::unknown("an error that nobody has classified"))
    }

    async fn get_disk_usage(
        &self,
        _: Request<GetDiskUsageRequest>,
    ) -> Result<Response<GetDiskUsageResponse>, Status> {
        Err(Status::unknown("an error that nobody has classified"))
    }
}

/// A server of it.
pub async fn start(directory: &Path) -> InProcess {
    InProcess::serve(directory, Routes::new(SystemServiceServer::new(Broken))).await
}

pub async fn internal_bug(client: &Client) -> Refusal {
    client.info().await.unwrap_err();
    let version = client.get_version(GetVersionRequest {}).await;
    version.unwrap_err()
}

pub async fn caller_cancelled(client: &Client) -> Refusal {
    let request = GetCapabilitiesRequest::default();
    client.get_capabilities(request).await.unwrap_err()
}
