//! The requests of `ContainerService`.

use std::collections::BTreeMap;

use wharf_api::v1;
use wharf_api::v1::ContainerView;

use super::flaws;
use crate::engine::wait::Condition;
use crate::model::{Run, Signal, limits};
use crate::transport::Violations;
use crate::transport::parse::container;

fn create(change: impl FnOnce(&mut v1::CreateContainerRequest)) -> v1::CreateContainerRequest {
    let mut request = v1::CreateContainerRequest {
        spec: Some(v1::ContainerSpec {
            image: "alpine".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    change(&mut request);
    request
}

fn create_flaws(change: impl FnOnce(&mut v1::CreateContainerRequest)) -> Vec<String> {
    flaws(|out| container::create(create(change), out))
}

fn filter_flaws(filter: v1::ContainerFilter) -> Vec<String> {
    let request = v1::ListContainersRequest {
        filter: Some(filter),
        ..Default::default()
    };
    flaws(|out| container::list(request, out))
}

#[test]
fn names_are_lower_case_bounded_and_no_ids() {
    for name in [
        "a",
        "web",
        "a-b_c.d",
        "0",
        &"a".repeat(128),
        &"g".repeat(32),
    ] {
        assert!(
            create_flaws(|r| r.name = name.to_owned()).is_empty(),
            "{name}"
        );
    }
    for name in [
        "A",
        "-a",
        "a-",
        "a b",
        "../a",
        "a/b",
        "ä",
        "a\0",
        "a\n",
        &"a".repeat(32),
    ] {
        let flaws = create_flaws(|r| r.name = name.to_owned());
        assert_eq!(flaws, ["name MALFORMED"], "{name}");
    }
    assert_eq!(
        create_flaws(|r| r.name = "a".repeat(129)),
        ["name TOO_LONG"]
    );
}

#[test]
fn labels_are_bounded_and_keep_off_the_servers_own() {
    let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert!(create_flaws(|r| r.labels = label("app", "")).is_empty());
    assert!(create_flaws(|r| r.labels = label(&"k".repeat(256), &"v".repeat(4_096))).is_empty());
    for (labels, flaw) in [
        (label("", "v"), "labels[\"\"] REQUIRED"),
        (label("k", "\0"), "labels[\"k\"] MALFORMED"),
        (label("k", &"v".repeat(4_097)), "labels[\"k\"] TOO_LONG"),
        (
            label("wharf.dev/x", "v"),
            "labels[\"wharf.dev/x\"] RESERVED",
        ),
        (
            (0..10_000)
                .map(|n| (n.to_string(), String::new()))
                .collect(),
            "labels TOO_MANY",
        ),
        (
            (0..20)
                .map(|n| (n.to_string(), "v".repeat(4_000)))
                .collect(),
            "labels TOO_LONG",
        ),
    ] {
        assert_eq!(create_flaws(|r| r.labels = labels), [flaw]);
    }
    let flaws = create_flaws(|r| r.labels = label(&"k".repeat(257), ""));
    assert!(flaws[0].ends_with("TOO_LONG"), "{flaws:?}");
}

#[test]
fn a_create_needs_a_spec() {
    assert_eq!(create_flaws(|r| r.spec = None), ["spec REQUIRED"]);
}

#[test]
fn how_an_image_is_pulled_must_be_said_in_full() {
    let pull = |policy, auth| v1::PullOptions {
        policy,
        auth,
        platform: None,
    };
    for policy in 0..=3 {
        assert!(create_flaws(|r| r.pull = Some(pull(policy, None))).is_empty());
    }
    assert_eq!(
        create_flaws(|r| r.pull = Some(pull(9, None))),
        ["pull.policy UNKNOWN_VALUE"]
    );
    let auth = Some(v1::RegistryAuth::default());
    assert_eq!(
        create_flaws(|r| r.pull = Some(pull(2, auth))),
        ["pull.auth REQUIRED"]
    );
}

#[test]
fn a_bad_idempotency_key_is_named() {
    let flaws = create_flaws(|r| r.idempotency_key = "two words".to_owned());
    assert_eq!(flaws, ["idempotency_key MALFORMED"]);
}

#[test]
fn which_container_is_meant_must_be_said() {
    let get = |container: &str| v1::GetContainerRequest {
        container: container.to_owned(),
        ..Default::default()
    };
    assert!(flaws(|out| container::key(&get("web"), out)).is_empty());
    assert_eq!(
        flaws(|out| container::key(&get(""), out)),
        ["container REQUIRED"]
    );
    assert_eq!(
        flaws(|out| container::key(&get("a\0"), out)),
        ["container MALFORMED"]
    );
    let long = get(&"a".repeat(129));
    assert_eq!(
        flaws(|out| container::key(&long, out)),
        ["container TOO_LONG"]
    );
}

#[test]
fn a_signal_must_be_one() {
    let signal = |name: &str| v1::SignalContainerRequest {
        signal: name.to_owned(),
        ..Default::default()
    };
    assert_eq!(
        flaws(|out| container::signal(signal(""), out)),
        ["signal REQUIRED"]
    );
    assert_eq!(
        flaws(|out| container::signal(signal("nope"), out)),
        ["signal UNKNOWN_VALUE"]
    );
    let sent = container::signal(signal("HUP"), &mut Violations::new()).unwrap();
    assert_eq!(sent.signal, Signal::from_number(1).unwrap());
}

#[test]
fn a_grace_period_for_a_delete_needs_force() {
    let delete = |force| v1::DeleteContainerRequest {
        force,
        grace_period: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..Default::default()
    };
    assert_eq!(
        flaws(|out| container::delete(delete(false), out)),
        ["grace_period CONFLICT"]
    );
    assert!(flaws(|out| container::delete(delete(true), out)).is_empty());
}

#[test]
fn waits_are_for_the_exit_unless_said_otherwise() {
    let wait = |conditions: Vec<i32>| {
        let request = v1::WaitContainerRequest {
            conditions,
            run: 7,
            ..Default::default()
        };
        container::wait(request, &mut Violations::new())
    };
    assert_eq!(wait(vec![]), (vec![Condition::Exited], Run(7)));
    assert_eq!(wait(vec![0, 2, 2]).0, [Condition::Exited]);
    assert_eq!(
        wait(vec![3, 1, 3]).0,
        [Condition::Deleted, Condition::Running]
    );
    let unknown = v1::WaitContainerRequest {
        conditions: vec![1, 99],
        ..Default::default()
    };
    assert_eq!(
        flaws(|out| container::wait(unknown, out)),
        ["conditions[1] UNKNOWN_VALUE"]
    );
}

#[test]
fn only_what_is_over_is_pruned() {
    let prune = |states: Vec<i32>| v1::PruneContainersRequest {
        filter: Some(v1::ContainerFilter {
            states,
            ..Default::default()
        }),
        ..Default::default()
    };
    assert!(flaws(|out| container::prune(prune(vec![7, 10]), out)).is_empty());
    assert_eq!(
        flaws(|out| container::prune(prune(vec![7, 4]), out)),
        ["filter.states CONFLICT"]
    );
}

#[test]
fn filters_are_bounded_and_typed() {
    let filter = v1::ContainerFilter::default;
    for (bad, flaw) in [
        (
            v1::ContainerFilter {
                id_prefixes: vec!["abc".into()],
                ..filter()
            },
            "filter.id_prefixes[0] MALFORMED",
        ),
        (
            v1::ContainerFilter {
                id_prefixes: vec!["ABCD".into()],
                ..filter()
            },
            "filter.id_prefixes[0] MALFORMED",
        ),
        (
            v1::ContainerFilter {
                names: vec![String::new()],
                ..filter()
            },
            "filter.names[0] REQUIRED",
        ),
        (
            v1::ContainerFilter {
                images: vec!["A B".into()],
                ..filter()
            },
            "filter.images[0] MALFORMED",
        ),
        (
            v1::ContainerFilter {
                states: vec![99],
                ..filter()
            },
            "filter.states[0] UNKNOWN_VALUE",
        ),
        (
            v1::ContainerFilter {
                states: vec![0],
                ..filter()
            },
            "filter.states[0] REQUIRED",
        ),
        (
            v1::ContainerFilter {
                health_states: vec![-1],
                ..filter()
            },
            "filter.health_states[0] UNKNOWN_VALUE",
        ),
        (
            v1::ContainerFilter {
                label_keys: vec![String::new()],
                ..filter()
            },
            "filter.label_keys[0] REQUIRED",
        ),
        (
            v1::ContainerFilter {
                names: vec!["a".into(); limits::MAX_FILTER_VALUES + 1],
                ..filter()
            },
            "filter.names TOO_MANY",
        ),
        (
            v1::ContainerFilter {
                create_time_after: Some(prost_types::Timestamp {
                    seconds: 0,
                    nanos: -1,
                }),
                ..filter()
            },
            "filter.create_time_after MALFORMED",
        ),
        (
            v1::ContainerFilter {
                create_time_before: Some(prost_types::Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                }),
                ..filter()
            },
            "filter.create_time_before MALFORMED",
        ),
    ] {
        assert_eq!(filter_flaws(bad), [flaw]);
    }
    assert!(
        filter_flaws(v1::ContainerFilter {
            id_prefixes: vec!["abcd".into()],
            ..filter()
        })
        .is_empty()
    );
}

#[test]
fn views_default_by_method() {
    let list = container::list(v1::ListContainersRequest::default(), &mut Violations::new());
    assert_eq!(list.1, ContainerView::Basic);
    let get = container::get(v1::GetContainerRequest::default(), &mut Violations::new());
    assert_eq!(get, ContainerView::Full);
    let unknown = v1::GetContainerRequest {
        view: 5,
        ..Default::default()
    };
    assert_eq!(
        flaws(|out| container::get(unknown, out)),
        ["view UNKNOWN_VALUE"]
    );
}
