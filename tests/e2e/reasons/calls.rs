//! Calls that are refused, whatever the server and containerd are at.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use wharf_api::v1::container::State;
use wharf_api::v1::container_service_client::ContainerServiceClient;
use wharf_api::v1::import_image_request::Request::{Data, End, Start};
use wharf_api::v1::wait_container_request::Condition;
use wharf_api::v1::{self, CreateContainerRequest, watch_events_request};

use crate::bad_input::raw;
use crate::harness::client::{answer, import_messages};
use crate::harness::direct::origin;
use crate::harness::image::{self, Recipe};
use crate::harness::wait::so;
use crate::harness::{Client, Refusal, spec, until};

/// Longer than any scenario.
const VERY_LONG: Duration = Duration::from_secs(3_600);

pub async fn invalid_field(client: &Client) -> Refusal {
    client.get("").await.unwrap_err()
}

pub async fn log_not_found(client: &Client) -> Refusal {
    let mut silent = spec::running(spec::PATIENT);
    silent.log = Some(v1::LogSpec {
        disabled: true,
        ..v1::LogSpec::default()
    });
    let create = CreateContainerRequest {
        name: "silent".to_owned(),
        spec: Some(silent),
        ..CreateContainerRequest::default()
    };
    client.create_with(create).await.unwrap();
    let request = client.request(v1::StreamLogsRequest {
        container: "silent".to_owned(),
        ..v1::StreamLogsRequest::default()
    });
    answer(client.logs().stream_logs(request).await).unwrap_err()
}

pub async fn stream_protocol(client: &Client) -> Refusal {
    let data = Data(Bytes::from_static(b"too early"));
    import(client, vec![data]).await
}

/// What comes of an import that cannot succeed.
async fn import(client: &Client, messages: Vec<v1::import_image_request::Request>) -> Refusal {
    let messages = messages.into_iter().map(|request| v1::ImportImageRequest {
        request: Some(request),
    });
    let request = client.request(futures_util::stream::iter(messages.collect::<Vec<_>>()));
    answer(client.images().import_image(request).await).unwrap_err()
}

pub async fn page_token_invalid(client: &Client) -> Refusal {
    let request = v1::ListContainersRequest {
        page_token: "forged".to_owned(),
        ..Default::default()
    };
    client.list_containers(request).await.unwrap_err()
}

pub async fn cursor_invalid(client: &Client) -> Refusal {
    let request = v1::WatchEventsRequest {
        start: Some(watch_events_request::Start::Cursor("forged".to_owned())),
        ..Default::default()
    };
    client.watch(request).await.unwrap_err()
}

pub async fn idempotency_key_mismatch(client: &Client) -> Refusal {
    let named = |name: &str| CreateContainerRequest {
        name: name.to_owned(),
        idempotency_key: "mismatch".to_owned(),
        spec: Some(spec::running(&["true"])),
        ..Default::default()
    };
    client.create_with(named("first")).await.unwrap();
    client.create_with(named("second")).await.unwrap_err()
}

pub async fn request_too_large(client: &Client) -> Refusal {
    client.get(&"x".repeat(5 << 20)).await.unwrap_err()
}

pub async fn container_not_found(client: &Client) -> Refusal {
    client.get("nobody").await.unwrap_err()
}

pub async fn image_not_found(client: &Client) -> Refusal {
    let image = "nothing".to_owned();
    let refused = client.get_image(v1::GetImageRequest { image }).await;
    refused.unwrap_err()
}

pub async fn platform_not_found(client: &Client) -> Refusal {
    let request = CreateContainerRequest {
        spec: Some(spec::running(&["true"])),
        pull: Some(v1::PullOptions {
            platform: Some(v1::Platform {
                os: "linux".to_owned(),
                architecture: "s390x".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.create_container(request).await.unwrap_err()
}

pub async fn container_name_in_use(client: &Client) -> Refusal {
    client.create("taken", &["true"]).await.unwrap();
    client.create("taken", &["true"]).await.unwrap_err()
}

pub async fn image_reference_in_use(client: &Client) -> Refusal {
    let mut recipe = Recipe::busybox("docker.io/library/other:test");
    recipe.process = json!({"Cmd": ["true"]});
    client.import(recipe.oci_layout()).await.unwrap();
    let request = v1::TagImageRequest {
        image: recipe.reference,
        reference: image::REFERENCE.to_owned(),
    };
    client.tag_image(request).await.unwrap_err()
}

pub async fn container_not_running(client: &Client) -> Refusal {
    client.create("idle", &["true"]).await.unwrap();
    client.signal("idle", "SIGHUP").await.unwrap_err()
}

pub async fn container_running(client: &Client) -> Refusal {
    client.run("running", spec::PATIENT).await.unwrap();
    client.delete("running").await.unwrap_err()
}

pub async fn container_paused(client: &Client) -> Refusal {
    client.run("paused", spec::PATIENT).await.unwrap();
    client.pause("paused").await.unwrap();
    client.start("paused").await.unwrap_err()
}

pub async fn condition_unreachable(client: &Client) -> Refusal {
    client.create("unhealthy", &["true"]).await.unwrap();
    let healthy = client.wait_for("unhealthy", 0, &[Condition::Healthy]);
    healthy.await.unwrap_err()
}

pub async fn run_changed(client: &Client) -> Refusal {
    client.create("moved-on", &["true"]).await.unwrap();
    let request = v1::StartContainerRequest {
        container: "moved-on".to_owned(),
        expected_run: Some(7),
        ..Default::default()
    };
    client.start_container(request).await.unwrap_err()
}

pub async fn image_in_use(client: &Client) -> Refusal {
    client.create("user", &["true"]).await.unwrap();
    let request = v1::DeleteImageRequest {
        image: image::REFERENCE.to_owned(),
        ..Default::default()
    };
    client.delete_image(request).await.unwrap_err()
}

pub async fn etag_mismatch(client: &Client) -> Refusal {
    let before = client.create("changed", &["true"]).await.unwrap();
    let relabel = v1::UpdateContainerRequest {
        container: "changed".to_owned(),
        update: Some(v1::ContainerUpdate {
            set_labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.update_container(relabel).await.unwrap();
    let request = v1::DeleteContainerRequest {
        container: "changed".to_owned(),
        etag: before.etag,
        ..Default::default()
    };
    client.delete_container(request).await.unwrap_err()
}

pub async fn operation_in_progress(client: &Client) -> Refusal {
    client.run("stopping", spec::STUBBORN).await.unwrap();
    let conflict = async {
        is_stopping(client, "stopping").await;
        let refusal = client.pause("stopping").await.unwrap_err();
        client.stop("stopping", Duration::ZERO).await.unwrap();
        refusal
    };
    let (stopped, refusal) = tokio::join!(client.stop("stopping", VERY_LONG), conflict);
    stopped.unwrap();
    refusal
}

async fn is_stopping(client: &Client, name: &str) {
    until("it is stopping", Duration::from_secs(20), async || {
        let state = client.state(name).await.unwrap();
        so(state == State::Stopping, || format!("{state:?}"))
    })
    .await;
}

fn slow_restart(container: &str, key: &str) -> v1::RestartContainerRequest {
    v1::RestartContainerRequest {
        container: container.to_owned(),
        grace_period: Some(spec::duration(VERY_LONG)),
        idempotency_key: key.to_owned(),
        ..Default::default()
    }
}

pub async fn idempotent_request_in_progress(client: &Client) -> Refusal {
    client.run("restarting", spec::STUBBORN).await.unwrap();
    let request = slow_restart("restarting", "slow");
    let repeat = async {
        is_stopping(client, "restarting").await;
        // The server answers only just before the deadline: a client of its own would be as quick to give up.
        let hasty = client.with_deadline(Duration::from_secs(1));
        let mut direct = ContainerServiceClient::with_origin(client.direct().await, origin());
        let repeated = direct.restart_container(hasty.request(request.clone()));
        let refusal = answer(repeated.await).unwrap_err();
        client.stop("restarting", Duration::ZERO).await.unwrap();
        refusal
    };
    let (first, refusal) = tokio::join!(client.restart_container(request.clone()), repeat);
    first.unwrap();
    refusal
}

pub async fn deleted_concurrently(client: &Client) -> Refusal {
    client.run("doomed", spec::STUBBORN).await.unwrap();
    let deletion = async {
        is_stopping(client, "doomed").await;
        client.delete_by_force("doomed").await.unwrap();
    };
    let restart = client.restart_container(slow_restart("doomed", ""));
    tokio::join!(restart, deletion).0.unwrap_err()
}

pub async fn method_not_supported(client: &Client) -> Refusal {
    let path = "/wharf.v1.ImageService/Nope";
    raw::unary(client, path, Bytes::new()).await.unwrap_err()
}

pub async fn option_not_supported(client: &Client) -> Refusal {
    let mut spec = spec::running(&["true"]);
    spec.restart_policy = Some(v1::RestartPolicy {
        condition: v1::restart_policy::Condition::Always.into(),
        ..Default::default()
    });
    let request = CreateContainerRequest {
        spec: Some(spec),
        ..Default::default()
    };
    client.create_container(request).await.unwrap_err()
}

pub async fn digest_mismatch(client: &Client) -> Refusal {
    let archive = Bytes::from_static(b"what was sent");
    let mut messages = import_messages(v1::ImportImageStart::default(), &archive);
    let other = import_messages(
        v1::ImportImageStart::default(),
        &Bytes::from_static(b"what was meant"),
    );
    *messages.last_mut().unwrap() = other.last().unwrap().clone();
    let request = client.request(futures_util::stream::iter(messages));
    answer(client.images().import_image(request).await).unwrap_err()
}

pub async fn image_invalid(client: &Client) -> Refusal {
    let archive = Bytes::from(vec![b'x'; 4_096]);
    let end = v1::TransferEnd {
        size_bytes: 4_096,
        ..Default::default()
    };
    let start = Start(v1::ImportImageStart::default());
    import(client, vec![start, Data(archive), End(end)]).await
}

/// A container that does not run, and with it its files.
async fn with_files(client: &Client, name: &str, read_only_root: bool) {
    let request = CreateContainerRequest {
        name: name.to_owned(),
        spec: Some(v1::ContainerSpec {
            read_only_root,
            ..spec::running(&["true"])
        }),
        ..Default::default()
    };
    client.create_with(request).await.unwrap();
}

pub async fn path_not_found(client: &Client) -> Refusal {
    with_files(client, "path-not-found", false).await;
    let missing = client.read_file("path-not-found", "/no/such/file").await;
    missing.unwrap_err()
}

pub async fn path_kind_mismatch(client: &Client) -> Refusal {
    with_files(client, "path-kind-mismatch", false).await;
    let directory = client.read_file("path-kind-mismatch", "/etc").await;
    directory.unwrap_err()
}

pub async fn root_read_only(client: &Client) -> Refusal {
    with_files(client, "root-read-only", true).await;
    client
        .put("root-read-only", "/file", "x")
        .await
        .unwrap_err()
}

pub async fn archive_invalid(client: &Client) -> Refusal {
    with_files(client, "archive-invalid", false).await;
    let start = v1::WriteArchiveStart {
        container: "archive-invalid".to_owned(),
        path: "/".to_owned(),
        ..Default::default()
    };
    client
        .write_archive(start, vec![b'x'; 4_096])
        .await
        .unwrap_err()
}
