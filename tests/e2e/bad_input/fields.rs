//! Fields beyond their limits.

use std::collections::BTreeMap;

use tonic::Code;
use wharf_api::ErrorReason::{self, CursorInvalid, InvalidField, PageTokenInvalid};
use wharf_api::v1::{
    self, ContainerFilter, CreateContainerRequest, EventFilter, ListContainersRequest,
    ListEventsRequest, WatchEventsRequest, watch_events_request::Start,
};

use super::changes_nothing;
use crate::harness::{Client, Refusal, scenario, spec};

/// Not a value of any enum, now or for a long time.
const NO_SUCH: i32 = 9_999;

fn must_name(refusal: &Refusal, field: &str) {
    assert_eq!(refusal.reason(), InvalidField, "{field}: {refusal}");
    assert!(
        refusal.fields().contains(field),
        "{field}: {:?}",
        refusal.violations
    );
    let unexplained: Vec<_> = refusal
        .violations
        .iter()
        .filter(|(_, why)| why.is_empty())
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

/// Creates with one thing changed; the refusal.
async fn create(client: &Client, change: impl FnOnce(&mut CreateContainerRequest)) -> Refusal {
    let mut request = CreateContainerRequest {
        spec: Some(spec::running(&["true"])),
        ..Default::default()
    };
    change(&mut request);
    client
        .create_container(request)
        .await
        .expect_err("it was accepted")
}

fn spec_of(request: &mut CreateContainerRequest) -> &mut v1::ContainerSpec {
    request.spec.as_mut().unwrap()
}

#[test]
fn names_are_no_paths() {
    changes_nothing(async |client| {
        for name in [
            "../../etc/passwd",
            "a/b",
            ".",
            "..",
            ".hidden",
            "-dash",
            "Upper",
            "white space",
            "new\nline",
            "nul\0",
            "naïve",
            "0123456789abcdef0123456789abcdef",
            &"x".repeat(129),
            "trailing-",
        ] {
            must_name(
                &create(client, |request| request.name = name.to_owned()).await,
                "name",
            );
        }
        let longest = format!("{}z", "a".repeat(127));
        let accepted = client
            .create_container(CreateContainerRequest {
                name: longest,
                spec: Some(spec::running(&["true"])),
                validate_only: true,
                ..Default::default()
            })
            .await;
        assert!(accepted.is_ok(), "{accepted:?}");
    });
}

#[test]
fn a_container_is_named_by_an_id_or_a_name_and_nothing_else() {
    changes_nothing(async |client| {
        for name in [
            "../victim",
            "/etc/passwd",
            "vict",
            "VICTIM",
            &"x".repeat(100_000),
            "a\0b",
        ] {
            let refusal = client.get(name).await.unwrap_err();
            let expected = [ErrorReason::ContainerNotFound, InvalidField];
            assert!(expected.contains(&refusal.reason()), "{refusal}");
        }
        must_name(&client.get("").await.unwrap_err(), "container");
    });
}

#[test]
fn labels_have_limits() {
    changes_nothing(async |client| {
        let many = (0..10_000)
            .map(|at| (format!("key-{at}"), String::new()))
            .collect();
        must_name(
            &create(client, |request| request.labels = many).await,
            "labels",
        );
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let long_key = one(&"k".repeat(257), "v");
        assert_eq!(
            create(client, |request| request.labels = long_key)
                .await
                .reason(),
            InvalidField
        );
        let empty_key = one("", "v");
        assert_eq!(
            create(client, |request| request.labels = empty_key)
                .await
                .reason(),
            InvalidField
        );
        let long_value = one("k", &"v".repeat(4_097));
        assert_eq!(
            create(client, |request| request.labels = long_value)
                .await
                .reason(),
            InvalidField
        );
    });
}

#[test]
fn numbers_of_enums_that_do_not_exist_are_refused() {
    changes_nothing(async |client| {
        let view = v1::GetContainerRequest {
            container: "victim".to_owned(),
            view: NO_SUCH,
        };
        must_name(&client.get_container(view).await.unwrap_err(), "view");
        let states = ListContainersRequest {
            filter: Some(ContainerFilter {
                states: vec![1, NO_SUCH],
                ..Default::default()
            }),
            ..Default::default()
        };
        let refusal = client.list_containers(states).await.unwrap_err();
        must_name(&refusal, "filter.states[1]");
        let types = ListEventsRequest {
            filter: Some(EventFilter {
                types: vec![NO_SUCH],
                ..Default::default()
            }),
            ..Default::default()
        };
        must_name(
            &client.list_events(types).await.unwrap_err(),
            "filter.types[0]",
        );
        let policy = WatchEventsRequest {
            gap_policy: NO_SUCH,
            ..Default::default()
        };
        must_name(&client.watch(policy).await.unwrap_err(), "gap_policy");
        let wait = v1::WaitContainerRequest {
            container: "victim".to_owned(),
            conditions: vec![NO_SUCH],
            ..Default::default()
        };
        let refusal = first_of_wait(client, wait).await.unwrap_err();
        must_name(&refusal, "conditions[0]");
        let pull = create(client, |request| {
            request.pull = Some(v1::PullOptions {
                policy: NO_SUCH,
                ..Default::default()
            });
        });
        must_name(&pull.await, "pull.policy");
    });
}

async fn first_of_wait(client: &Client, request: v1::WaitContainerRequest) -> Result<(), Refusal> {
    let messages = client
        .containers()
        .wait_container(client.request(request))
        .await;
    messages?.into_inner().message().await?;
    Ok(())
}

#[test]
fn every_violation_is_told_at_once() {
    changes_nothing(async |client| {
        let refusal = create(client, |request| {
            request.name = "No/Name".to_owned();
            request.idempotency_key = "two words".to_owned();
            let spec = spec_of(request);
            spec.image.clear();
            spec.hostname = "h".repeat(65);
            spec.stop_signal = "SIGNONSENSE".to_owned();
            spec.process.as_mut().unwrap().working_dir = "relative".to_owned();
            spec.resources = Some(v1::Resources {
                memory_limit_bytes: Some(1),
                ..Default::default()
            });
        });
        let refusal = refusal.await;
        assert_eq!(refusal.reason(), InvalidField);
        for field in [
            "name",
            "idempotency_key",
            "spec.image",
            "spec.hostname",
            "spec.stop_signal",
            "spec.process.working_dir",
            "spec.resources.memory_limit_bytes",
        ] {
            must_name(&refusal, field);
        }
    });
}

#[test]
fn paths_inside_and_outside_are_absolute_and_climb_nowhere() {
    changes_nothing(async |client| {
        for target in ["relative", "/a/../../etc", "", "/nul\0", "/.."] {
            let refusal = create(client, |request| {
                spec_of(request).mounts.push(v1::Mount {
                    target: target.to_owned(),
                    source: Some(v1::mount::Source::Tmpfs(v1::TmpfsMount::default())),
                    ..Default::default()
                });
            });
            must_name(&refusal.await, "spec.mounts[0].target");
        }
        let refusal = create(client, |request| {
            spec_of(request).mounts.push(v1::Mount {
                target: "/in".to_owned(),
                source: Some(v1::mount::Source::Bind(v1::BindMount {
                    path: "../../etc".to_owned(),
                    ..Default::default()
                })),
                ..Default::default()
            });
        });
        must_name(&refusal.await, "spec.mounts[0].bind.path");
    });
}

#[test]
fn pages_are_as_large_as_they_may_be_and_never_negative() {
    changes_nothing(async |client| {
        let page = |page_size| ListContainersRequest {
            page_size,
            ..Default::default()
        };
        assert_eq!(
            client
                .list_containers(page(i32::MAX))
                .await
                .unwrap()
                .containers
                .len(),
            1
        );
        for size in [-1, i32::MIN] {
            must_name(
                &client.list_containers(page(size)).await.unwrap_err(),
                "page_size",
            );
        }
    });
}

#[test]
fn page_tokens_belong_to_the_call_that_made_them() {
    scenario(async |world| {
        let client = world.up().await;
        for number in 0..3 {
            client
                .create(&format!("c{number}"), &["true"])
                .await
                .unwrap();
        }
        let two = ListContainersRequest {
            page_size: 2,
            ..Default::default()
        };
        let first = client.list_containers(two.clone()).await.unwrap();
        assert_eq!(first.containers.len(), 2);
        let with = |token: &str, filter| ListContainersRequest {
            page_token: token.to_owned(),
            filter,
            ..two.clone()
        };
        let other = ContainerFilter {
            names: vec!["c0".to_owned()],
            ..Default::default()
        };
        let token = &first.next_page_token;
        let refusal = client
            .list_containers(with(token, Some(other)))
            .await
            .unwrap_err();
        assert_eq!(refusal.reason(), PageTokenInvalid, "{refusal}");
        for forged in ["garbage", "AAAA", &token[1..], &"A".repeat(10_000), "\u{0}"] {
            let refusal = client
                .list_containers(with(forged, None))
                .await
                .unwrap_err();
            assert_eq!(refusal.reason(), PageTokenInvalid, "{forged:?}: {refusal}");
        }
        let of_events = ListEventsRequest {
            page_token: token.clone(),
            ..Default::default()
        };
        let refusal = client.list_events(of_events).await.unwrap_err();
        assert_eq!(refusal.reason(), PageTokenInvalid, "{refusal}");
        assert_eq!(
            client
                .list_containers(with(token, None))
                .await
                .unwrap()
                .containers
                .len(),
            1
        );
    });
}

#[test]
fn cursors_belong_to_their_server() {
    changes_nothing(async |client| {
        let own = client.info().await.unwrap().newest_cursor;
        let after = |cursor: &str| WatchEventsRequest {
            start: Some(Start::Cursor(cursor.to_owned())),
            ..Default::default()
        };
        assert!(client.watch(after(&own)).await.is_ok());
        let mut altered = own.clone().into_bytes();
        altered[4] = if altered[4] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        for foreign in [
            "garbage",
            "",
            "AAAA",
            &own[1..],
            &altered,
            &"A".repeat(10_000),
        ] {
            let refusal = client.watch(after(foreign)).await.unwrap_err();
            assert_eq!(refusal.reason(), CursorInvalid, "{foreign:?}: {refusal}");
            assert_eq!(refusal.code, Code::InvalidArgument);
        }
    });
}

#[test]
fn a_cursor_of_another_server_is_of_no_use() {
    let mut foreign = String::new();
    scenario(async |world| foreign = world.up().await.info().await.unwrap().newest_cursor);
    changes_nothing(async |client| {
        let request = WatchEventsRequest {
            start: Some(Start::Cursor(foreign)),
            ..Default::default()
        };
        let refusal = client.watch(request).await.unwrap_err();
        assert_eq!(refusal.reason(), CursorInvalid, "{refusal}");
    });
}
