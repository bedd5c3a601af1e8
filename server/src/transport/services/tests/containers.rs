//! `ContainerService`.

use futures_util::TryStreamExt as _;
use tonic::Code;
use wharf_api::v1::container::State;
use wharf_api::v1::wait_container_response::Response;
use wharf_api::{metadata, v1};

use super::{Api, create, refusal};
use crate::backend::WaitStatus;

#[tokio::test]
async fn validating_changes_nothing() {
    let api = Api::new().await;
    let request = v1::CreateContainerRequest {
        validate_only: true,
        start: true,
        ..create()
    };
    let answer = api.containers().create_container(request).await.unwrap();
    let container = answer.into_inner().container.unwrap();
    assert_eq!((container.id.as_str(), container.etag.as_str()), ("", ""));
    assert_eq!(container.spec.unwrap().image, "app0");
    let all = list(&api, v1::ListContainersRequest::default()).await;
    assert!(all.containers.is_empty());
    api.close().await;
}

#[tokio::test]
async fn a_missing_container_is_said_before_what_else_is_wrong() {
    let api = Api::new().await;
    let stop = |container: &str| v1::StopContainerRequest {
        container: container.to_owned(),
        signal: "NOPE".to_owned(),
        ..Default::default()
    };
    let not_found = (Code::NotFound, "CONTAINER_NOT_FOUND".to_owned());
    let invalid = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    let mut client = api.containers();
    assert_eq!(
        refusal(client.stop_container(stop("nobody")).await),
        not_found
    );
    assert_eq!(refusal(client.stop_container(stop("")).await), invalid);
    let container = api.create(|_| ()).await;
    assert_eq!(
        refusal(client.stop_container(stop(&container.id)).await),
        invalid
    );
    api.close().await;
}

#[tokio::test]
async fn only_unsupported_options_are_not_called_invalid() {
    let api = Api::new().await;
    let mut request = create();
    request.spec.get_or_insert_default().run_timeout = Some(prost_types::Duration {
        seconds: 1,
        nanos: 0,
    });
    let unsupported = (Code::Unimplemented, "OPTION_NOT_SUPPORTED".to_owned());
    assert_eq!(
        refusal(api.containers().create_container(request.clone()).await),
        unsupported
    );
    request.name = "A".to_owned();
    let invalid = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    assert_eq!(
        refusal(api.containers().create_container(request).await),
        invalid
    );
    api.close().await;
}

#[tokio::test]
async fn deleting_what_is_not_there_is_fine_if_asked_for() {
    let api = Api::new().await;
    let delete = |allow_missing| v1::DeleteContainerRequest {
        container: "nobody".to_owned(),
        allow_missing,
        ..Default::default()
    };
    let mut client = api.containers();
    let answer = client.delete_container(delete(true)).await.unwrap();
    assert!(!answer.into_inner().changed);
    assert_eq!(
        refusal(client.delete_container(delete(false)).await).0,
        Code::NotFound
    );
    api.close().await;
}

#[tokio::test]
async fn a_repeated_create_gets_the_first_ones_answer() {
    let api = Api::new().await;
    let request = v1::CreateContainerRequest {
        idempotency_key: "once".to_owned(),
        ..create()
    };
    let mut client = api.containers();
    let first = client.create_container(request.clone()).await.unwrap();
    assert!(first.metadata().get(metadata::IDEMPOTENT_REPLAY).is_none());
    let second = client.create_container(request.clone()).await.unwrap();
    assert_eq!(
        second.metadata().get(metadata::IDEMPOTENT_REPLAY).unwrap(),
        "true"
    );
    let id = |answer: tonic::Response<v1::CreateContainerResponse>| {
        answer.into_inner().container.unwrap().id
    };
    assert_eq!(id(first), id(second));
    let other = v1::CreateContainerRequest {
        start: true,
        ..request
    };
    assert_eq!(
        refusal(client.create_container(other).await).1,
        "IDEMPOTENCY_KEY_MISMATCH"
    );
    api.close().await;
}

#[tokio::test]
async fn pages_hold_every_container_once_and_one_cursor() {
    let api = Api::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(api.create(|_| ()).await.id);
    }
    let mut request = v1::ListContainersRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = list(&api, request.clone()).await;
    ids.push(api.create(|r| r.name = "later".to_owned()).await.id);
    let (mut pages, mut token) = (vec![first.clone()], first.next_page_token);
    while !token.is_empty() {
        request.page_token = token;
        let page = list(&api, request.clone()).await;
        token = page.next_page_token.clone();
        pages.push(page);
    }
    assert_eq!(pages.len(), 3);
    assert!(pages.iter().all(|page| page.cursor == first.cursor));
    let listed = pages.into_iter().flat_map(|page| page.containers);
    assert_eq!(
        listed.map(|container| container.id).collect::<Vec<_>>(),
        ids
    );

    request.view = 2;
    let refused = refusal(api.containers().list_containers(request).await);
    assert_eq!(
        refused,
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned())
    );
    api.close().await;
}

async fn list(api: &Api, request: v1::ListContainersRequest) -> v1::ListContainersResponse {
    let answer = api.containers().list_containers(request).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn a_wait_is_registered_and_then_tells_the_exit() {
    let api = Api::new().await;
    let container = api.create(|r| r.start = true).await;
    let request = v1::WaitContainerRequest {
        container: container.id.clone(),
        ..Default::default()
    };
    let answer = api.containers().wait_container(request).await.unwrap();
    let mut messages = answer.into_inner();
    let first = messages.message().await.unwrap().unwrap().response;
    let Some(Response::Registered(registered)) = first else {
        unreachable!("{first:?}");
    };
    assert_eq!((registered.state(), registered.run), (State::Running, 1));

    assert!(
        api.backend
            .exit(container.id.parse().unwrap(), WaitStatus::Exited(3))
    );
    let second = messages.message().await.unwrap().unwrap().response;
    let Some(Response::Result(result)) = second else {
        unreachable!("{second:?}");
    };
    assert_eq!(result.exit_status.unwrap().code, 3);
    assert!(messages.message().await.unwrap().is_none());
    api.close().await;
}

#[tokio::test]
async fn a_container_goes_through_its_life() {
    let api = Api::new().await;
    let created = api.create(|r| r.name = "web".to_owned()).await;
    let mut client = api.containers();
    let container = || "web".to_owned();

    let start = v1::StartContainerRequest {
        container: container(),
        expected_run: Some(0),
        ..Default::default()
    };
    let started = client
        .start_container(start.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(started.changed);
    assert_eq!(started.container.unwrap().run, 1);
    let again = v1::StartContainerRequest {
        expected_run: None,
        ..start.clone()
    };
    assert!(
        !client
            .start_container(again)
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    assert_eq!(
        refusal(client.start_container(start).await).1,
        "RUN_CHANGED"
    );

    let pause = v1::PauseContainerRequest {
        container: container(),
        ..Default::default()
    };
    assert!(
        client
            .pause_container(pause)
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    let resume = v1::ResumeContainerRequest {
        container: container(),
        ..Default::default()
    };
    assert!(
        client
            .resume_container(resume)
            .await
            .unwrap()
            .into_inner()
            .changed
    );

    let update = v1::UpdateContainerRequest {
        container: container(),
        update: Some(v1::ContainerUpdate {
            resources: Some(v1::Resources {
                memory_limit_bytes: Some(64 << 20),
                ..Default::default()
            }),
            remove_labels: vec!["none".to_owned()],
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["resources.memory_limit_bytes".to_owned()],
        }),
        ..Default::default()
    };
    let updated = client.update_container(update).await.unwrap().into_inner();
    let resources = updated.container.unwrap().spec.unwrap().resources.unwrap();
    assert_eq!(resources.memory_limit_bytes, Some(64 << 20));
    assert_eq!(resources.pids_limit, Some(4_096));

    let stop = v1::StopContainerRequest {
        container: container(),
        ..Default::default()
    };
    let stopped = client.stop_container(stop).await.unwrap().into_inner();
    assert!(stopped.changed);
    assert_eq!(stopped.exit_status.unwrap().run, 1);

    let delete = v1::DeleteContainerRequest {
        container: created.id,
        ..Default::default()
    };
    assert!(
        client
            .delete_container(delete)
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    api.close().await;
}

#[tokio::test]
async fn pruning_reports_first_and_deletes_what_is_over() {
    let api = Api::new().await;
    api.create(|r| r.name = "kept".to_owned()).await;
    let over = api.create(|r| r.start = true).await;
    assert!(
        api.backend
            .exit(over.id.parse().unwrap(), WaitStatus::Exited(0))
    );
    let wait = v1::WaitContainerRequest {
        container: over.id.clone(),
        ..Default::default()
    };
    let waited = api.containers().wait_container(wait).await.unwrap();
    let _: Vec<_> = waited.into_inner().try_collect().await.unwrap();

    let prune = async |dry_run| {
        let request = v1::PruneContainersRequest {
            dry_run,
            ..Default::default()
        };
        let answer = api.containers().prune_containers(request).await.unwrap();
        let reports: Vec<_> = answer.into_inner().try_collect().await.unwrap();
        reports
            .into_iter()
            .map(|report| report.container_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(prune(true).await, [over.id.as_str()]);
    assert_eq!(prune(false).await, [over.id.as_str()]);
    assert!(prune(false).await.is_empty());
    let kept = v1::GetContainerRequest {
        container: "kept".to_owned(),
        ..Default::default()
    };
    assert!(api.containers().get_container(kept).await.is_ok());
    api.close().await;
}
