//! Calls while the way to containerd misbehaves.

use std::path::PathBuf;
use std::time::Duration;

use tonic::Code;
use wharf_api::metadata::REQUEST_ID;
use wharf_api::v1::PauseContainerRequest;

use crate::bad_input::wire::Wire;
use crate::harness::proxy::{Fault, Proxy};
use crate::harness::{Client, Refusal, spec, until};

/// What is between the server and containerd, and where the server is.
#[derive(Debug)]
pub struct Between {
    pub proxy: Proxy,
    pub socket: PathBuf,
}

const SOON: Duration = Duration::from_secs(120);
const PAUSE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Pause";
const CREATE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Create";

/// What comes of a pause, and of the container once the fault is over.
async fn pause(client: &Client, between: &Between, name: &str, fault: Fault) -> Refusal {
    client.run(name, spec::PATIENT).await.unwrap();
    between.proxy.fail_times(PAUSE_TASK, fault, 1);
    let refusal = client.pause(name).await.unwrap_err();
    client.delete_by_force(name).await.unwrap();
    refusal
}

pub async fn backend_unavailable(client: &Client, between: &Between) -> Refusal {
    client.run("cut-off", spec::PATIENT).await.unwrap();
    between.proxy.fail_times(PAUSE_TASK, Fault::Cut, 1);
    let refusal = client.pause("cut-off").await.unwrap_err();
    until("containerd is back", SOON, async || {
        let deleted = client.delete_by_force("cut-off").await;
        deleted.map_err(|refusal| refusal.to_string())
    })
    .await;
    refusal
}

pub async fn backend_protocol(client: &Client, between: &Between) -> Refusal {
    let nonsense = Fault::Status(Code::DataLoss, "nonsense");
    let refusal = pause(client, between, "nonsense", nonsense).await;
    assert_eq!(refusal.metadata["backend"], "containerd");
    assert_eq!(refusal.metadata["backendCode"], "DataLoss");
    refusal
}

/// As a real containerd says it when the host has no memory left.
pub async fn host_resources(client: &Client, between: &Between) -> Refusal {
    let words = "failed to create shim task: OCI runtime create failed: fork/exec /usr/bin/runc: \
                 cannot allocate memory: unknown";
    client.create("starved", spec::PATIENT).await.unwrap();
    between
        .proxy
        .fail_times(CREATE_TASK, Fault::Status(Code::Unknown, words), 1);
    let refusal = client.start("starved").await.unwrap_err();
    assert_eq!(refusal.metadata["errno"], "ENOMEM");
    refusal
}

/// By a client that leaves it to the server to notice: generated ones notice at the same moment.
pub async fn deadline(client: &Client, between: &Between) -> Refusal {
    client.run("late", spec::PATIENT).await.unwrap();
    between
        .proxy
        .fail_times(PAUSE_TASK, Fault::Delay(Duration::from_secs(2)), 1);
    let request = client.request(());
    let id = request.metadata().get(REQUEST_ID).unwrap();
    let mut wire = Wire::connect(&between.socket).await;
    let refusal = wire
        .call("/wharf.v1.ContainerService/PauseContainer")
        .header("grpc-timeout", b"300m")
        .header("x-request-id", id.as_encoded_bytes())
        .message(&PauseContainerRequest {
            container: "late".to_owned(),
            ..Default::default()
        })
        .send()
        .await
        .refusal();
    client.delete_by_force("late").await.unwrap();
    refusal
}
