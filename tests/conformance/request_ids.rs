//! Which request caused what: 200 lifecycles at once, and ids that nobody should have sent.

use std::collections::BTreeMap;

use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic_prost::ProstCodec;
use wharf_api::v1::{self, Event, EventFilter, WatchEventsRequest, event::Type};
use wharf_api::{metadata, token};

use crate::harness::client::answer;
use crate::harness::events::{self, cause, types};
use crate::harness::{Client, scenario, spec};

const LIFECYCLES: usize = 200;

#[test]
fn two_hundred_lifecycles_at_once_never_mix_up_their_requests() {
    scenario(async |world| {
        let client = world.up().await;
        let mut watch = client.watch(WatchEventsRequest::default()).await.unwrap();
        let ids = live_all(&client).await;

        let journal = client.every_event().await;
        events::must_be_dense(&journal);
        for (number, id) in &ids {
            let own: Vec<_> = journal
                .iter()
                .filter(|e| e.container_id == *id)
                .cloned()
                .collect();
            must_name_their_requests(*number, &own);
        }
        let caused = requests_by_container(&journal);
        for (request, containers) in &caused {
            assert_eq!(
                containers.len(),
                1,
                "{request} is said to have changed {containers:?}"
            );
        }
        assert_eq!(caused.len(), expected_requests());
        for number in [0, 1, 2, LIFECYCLES - 1] {
            must_be_found_by_request(&client, number, &ids[&number]).await;
        }

        client
            .with_id("last")
            .create("last", &["true"])
            .await
            .unwrap();
        let mut watched = Vec::new();
        while watched
            .last()
            .is_none_or(|event: &Event| cause(event) != Some("last"))
        {
            watched.push(watch.event().await);
        }
        let since = watched[0].sequence;
        let journal = client.every_event().await;
        let listed: Vec<_> = journal
            .into_iter()
            .filter(|e| e.sequence >= since)
            .collect();
        assert_eq!(watched, listed, "a live watch and the journal differ");
    });
}

/// Every third container ends by itself; the others are stopped.
fn ends_by_itself(number: usize) -> bool {
    number.is_multiple_of(3)
}

fn expected_requests() -> usize {
    (0..LIFECYCLES)
        .map(|number| if ends_by_itself(number) { 3 } else { 4 })
        .sum()
}

/// All lifecycles; the ids of their containers.
async fn live_all(client: &Client) -> BTreeMap<usize, String> {
    let mut lives = JoinSet::new();
    for number in 0..LIFECYCLES {
        let client = client.clone();
        lives.spawn(async move { (number, live(&client, number).await) });
    }
    lives.join_all().await.into_iter().collect()
}

async fn live(client: &Client, number: usize) -> String {
    let name = format!("life-{number}");
    let by = |step: &str| client.with_id(format!("{name}/{step}"));
    let args = if ends_by_itself(number) {
        &["sh", "-c", "exit 3"]
    } else {
        spec::STUBBORN
    };
    let container = by("create").create(&name, args).await.unwrap();
    by("start").start(&container.id).await.unwrap();
    if ends_by_itself(number) {
        let exit = by("wait").exit_of(&container.id, 1).await.unwrap();
        assert_eq!((exit.code, &exit.cause), (3, &None));
    } else {
        let stop = v1::StopContainerRequest {
            container: container.id.clone(),
            signal: "SIGKILL".to_owned(),
            ..Default::default()
        };
        let stopped = by("stop").stop_container(stop).await.unwrap();
        let exit = stopped.exit_status.unwrap();
        assert_eq!(exit.cause.unwrap().request_id, format!("{name}/stop"));
    }
    by("delete").delete(&container.id).await.unwrap();
    container.id
}

fn must_name_their_requests(number: usize, events: &[Event]) {
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.r#type(), cause(event)))
        .collect();
    let by = |step: &str| format!("life-{number}/{step}");
    let (create, start, stop, delete) = (by("create"), by("start"), by("stop"), by("delete"));
    let mut expected = vec![
        (Type::ContainerCreated, Some(create.as_str())),
        (Type::ContainerStarted, Some(start.as_str())),
    ];
    if ends_by_itself(number) {
        expected.push((Type::ContainerExited, None));
    } else {
        expected.extend([
            (Type::ContainerStopping, Some(stop.as_str())),
            (Type::ContainerSignaled, Some(stop.as_str())),
            (Type::ContainerExited, Some(stop.as_str())),
        ]);
    }
    expected.push((Type::ContainerDeleted, Some(delete.as_str())));
    assert_eq!(told, expected);
}

fn requests_by_container(events: &[Event]) -> BTreeMap<&str, Vec<&str>> {
    let mut caused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.container_id.is_empty()) {
        if let Some(request) = cause(event) {
            let containers = caused.entry(request).or_default();
            if !containers.contains(&event.container_id.as_str()) {
                containers.push(&event.container_id);
            }
        }
    }
    caused
}

async fn must_be_found_by_request(client: &Client, number: usize, id: &str) {
    let filter = EventFilter {
        request_ids: vec![
            format!("life-{number}/start"),
            format!("life-{number}/delete"),
        ],
        ..Default::default()
    };
    let found = client.events_where(filter).await;
    assert_eq!(
        types(&found),
        [Type::ContainerStarted, Type::ContainerDeleted]
    );
    assert!(found.iter().all(|event| event.container_id == id));
}

#[test]
fn a_request_id_that_cannot_be_used_is_replaced_marked_and_never_logged() {
    const MARK: &str = "RAW-MARK-OF-A-BAD-ID";
    scenario(async |world| {
        let client = world.up().await;
        let long = format!("{MARK}{}", "x".repeat(token::MAX_LEN));
        let bad: [&[u8]; 5] = [
            long.as_bytes(),
            b"two words RAW-MARK-OF-A-BAD-ID",
            b"RAW-MARK-OF-A-BAD-ID\xff\xfe",
            "RAW-MARK-OF-A-BAD-ID-naïve".as_bytes(),
            b"RAW-MARK-OF-A-BAD-ID{\"level\":\"error\"}",
        ];
        for (number, id) in bad.into_iter().enumerate() {
            let answered = create_with_raw_id(&client, &format!("odd-{number}"), id).await;
            assert_eq!(answered.get(metadata::REQUEST_ID_REJECTED).unwrap(), "1");
            let given = answered
                .get(metadata::REQUEST_ID)
                .unwrap()
                .to_str()
                .unwrap();
            assert!(token::is_valid(given) && given.as_bytes() != id, "{given}");

            let container = client.get(&format!("odd-{number}")).await.unwrap();
            let created = &client.events_of(&container.id).await[0];
            assert_eq!(cause(created), Some(given));
        }
        assert!(!world.wharfd.log().contains(MARK), "a raw id is in the log");
    });
}

async fn create_with_raw_id(client: &Client, name: &str, id: &[u8]) -> MetadataMap {
    let mut request = client.request(v1::CreateContainerRequest {
        name: name.to_owned(),
        spec: Some(spec::running(&["true"])),
        ..Default::default()
    });
    let value = MetadataValue::<Ascii>::try_from(id).unwrap();
    request.metadata_mut().insert(metadata::REQUEST_ID, value);
    client
        .containers()
        .create_container(request)
        .await
        .unwrap()
        .metadata()
        .clone()
}

#[test]
fn a_valid_request_id_is_echoed_in_headers_and_trailers_and_a_missing_one_is_made() {
    scenario(async |world| {
        let client = world.up().await;
        let longest = "a".repeat(token::MAX_LEN);
        for id in ["deploy-42/step:3", "A._:@/+=-9", longest.as_str()] {
            let (headers, trailers) = version(&client.with_id(id)).await;
            for metadata in [&headers, &trailers] {
                assert_eq!(metadata.get(metadata::REQUEST_ID).unwrap(), id);
                assert!(metadata.get(metadata::REQUEST_ID_REJECTED).is_none());
            }
        }
        let (headers, trailers) = version(&client).await;
        let made = headers.get(metadata::REQUEST_ID).unwrap();
        assert!(token::is_valid(made.to_str().unwrap()));
        assert_eq!(trailers.get(metadata::REQUEST_ID), Some(made));

        let refused = client.with_id("who-asked").get("nobody").await.unwrap_err();
        assert_eq!(refused.request_id, "who-asked");
    });
}

/// The headers and trailers of a unary call, apart: generated clients put them together.
async fn version(client: &Client) -> (MetadataMap, MetadataMap) {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.unwrap();
    let request = client.request(stream::iter([v1::GetVersionRequest {}]));
    let path = PathAndQuery::from_static("/wharf.v1.SystemService/GetVersion");
    let codec = ProstCodec::<_, v1::GetVersionResponse>::default();
    let answered = grpc.streaming(request, path, codec).await.unwrap();
    let (headers, mut messages, _) = answered.into_parts();
    messages.message().await.unwrap().expect("an answer");
    (headers, messages.trailers().await.unwrap().unwrap())
}

#[test]
fn a_stream_echoes_its_request_id_too() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("brief", &["true"]).await.unwrap();
        let request = v1::WaitContainerRequest {
            container: "brief".to_owned(),
            ..Default::default()
        };
        let asked = client.with_id("wait-1").request(request);
        let answered = client.containers().wait_container(asked).await.unwrap();
        assert_eq!(
            answered.metadata().get(metadata::REQUEST_ID).unwrap(),
            "wait-1"
        );
        let mut messages = answer(Ok(answered)).unwrap();
        while messages.message().await.unwrap().is_some() {}
        let trailers = messages.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.get(metadata::REQUEST_ID).unwrap(), "wait-1");
    });
}
