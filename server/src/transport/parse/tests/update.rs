//! Updates: what the mask says.

use std::collections::BTreeMap;

use wharf_api::v1;

use super::flaws;
use crate::engine::UpdateContainer;
use crate::model::limits;
use crate::transport::Violations;
use crate::transport::parse::update::update;

fn request(mask: &[&str], update: v1::ContainerUpdate) -> v1::UpdateContainerRequest {
    v1::UpdateContainerRequest {
        container: "web".to_owned(),
        update: Some(update),
        update_mask: Some(prost_types::FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
        etag: String::new(),
    }
}

fn update_flaws(mask: &[&str], message: v1::ContainerUpdate) -> Vec<String> {
    flaws(|out| update(request(mask, message), out))
}

fn parsed(mask: &[&str], message: v1::ContainerUpdate) -> UpdateContainer {
    let mut out = Violations::new();
    let parsed = update(request(mask, message), &mut out);
    assert!(out.is_empty(), "{out}");
    parsed
}

fn named(name: &str) -> v1::ContainerUpdate {
    v1::ContainerUpdate {
        name: name.to_owned(),
        ..Default::default()
    }
}

fn limited(resources: v1::Resources) -> v1::ContainerUpdate {
    v1::ContainerUpdate {
        resources: Some(resources),
        ..Default::default()
    }
}

fn memory(bytes: i64) -> v1::Resources {
    v1::Resources {
        memory_limit_bytes: Some(bytes),
        ..Default::default()
    }
}

#[test]
fn what_the_mask_names_is_changed() {
    assert_eq!(parsed(&["name"], named("new")).name.as_deref(), Some("new"));
    let changes = parsed(&["resources.memory_limit_bytes"], limited(memory(8 << 20))).resources;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].path, "resources.memory_limit_bytes");
    assert_eq!(changes[0].from.memory_limit_bytes, Some(8 << 20));
}

#[test]
fn what_the_mask_names_and_the_request_leaves_empty_gets_its_default() {
    let changes = parsed(&["resources.memory_limit_bytes"], Default::default()).resources;
    assert_eq!(changes[0].from.memory_limit_bytes, None);
    let changes = parsed(&["resources"], Default::default()).resources;
    assert_eq!(changes[0].path, "resources");
    assert_eq!(changes[0].from.pids_limit, Some(limits::DEFAULT_PIDS));
    assert_eq!(
        update_flaws(&["name"], Default::default()),
        ["update.name REQUIRED"]
    );
}

#[test]
fn all_limits_together_include_each() {
    let mask = ["resources.memory_limit_bytes", "resources", "resources"];
    let changes = parsed(&mask, limited(memory(8 << 20))).resources;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].path, "resources");
}

#[test]
fn a_mask_names_known_paths_only() {
    for path in [
        "*",
        "",
        "labels",
        "set_labels",
        "remove_labels",
        "resources.nope",
        "Name",
        "name.x",
        "restart_policy.condition",
    ] {
        let flaws = update_flaws(&[path], Default::default());
        assert_eq!(flaws, ["update_mask.paths[0] UNKNOWN_VALUE"], "{path}");
    }
    let many = vec!["name"; limits::MAX_FILTER_VALUES + 1];
    assert!(update_flaws(&many, named("x")).contains(&"update_mask.paths TOO_MANY".to_owned()));
}

#[test]
fn a_value_outside_of_the_mask_is_a_mistake() {
    assert_eq!(update_flaws(&[], named("x")), ["update.name NOT_IN_MASK"]);
    assert_eq!(
        update_flaws(
            &["name"],
            v1::ContainerUpdate {
                resources: Some(memory(8 << 20)),
                ..named("x")
            }
        ),
        ["update.resources.memory_limit_bytes NOT_IN_MASK"]
    );
    assert_eq!(
        update_flaws(
            &["resources.pids_limit"],
            limited(v1::Resources {
                pids_limit: Some(1),
                ..memory(8 << 20)
            })
        ),
        ["update.resources.memory_limit_bytes NOT_IN_MASK"]
    );
    assert_eq!(
        update_flaws(
            &["name"],
            v1::ContainerUpdate {
                resources: Some(Default::default()),
                ..named("x")
            }
        ),
        ["update.resources NOT_IN_MASK"]
    );
    assert_eq!(
        update_flaws(
            &["name"],
            v1::ContainerUpdate {
                restart_policy: Some(Default::default()),
                ..named("x")
            }
        ),
        ["update.restart_policy NOT_IN_MASK"]
    );
}

#[test]
fn every_limit_can_be_named_and_is_missed_if_it_is_not() {
    let all = v1::Resources {
        cpu_limit_millicores: Some(100),
        cpu_weight: Some(1),
        cpuset_cpus: "0".to_owned(),
        memory_limit_bytes: Some(8 << 20),
        memory_reservation_bytes: Some(1),
        swap_limit_bytes: Some(0),
        pids_limit: Some(1),
        io_weight: Some(1),
    };
    assert_eq!(update_flaws(&[], limited(all.clone())).len(), 8);
    let mask = [
        "resources.cpu_limit_millicores",
        "resources.cpu_weight",
        "resources.cpuset_cpus",
        "resources.memory_limit_bytes",
        "resources.memory_reservation_bytes",
        "resources.swap_limit_bytes",
        "resources.pids_limit",
        "resources.io_weight",
    ];
    assert_eq!(parsed(&mask, limited(all)).resources.len(), 8);
}

#[test]
fn values_are_checked_as_in_a_create() {
    assert_eq!(
        update_flaws(&["name"], named("A")),
        ["update.name MALFORMED"]
    );
    assert_eq!(
        update_flaws(&["resources.memory_limit_bytes"], limited(memory(1))),
        ["update.resources.memory_limit_bytes OUT_OF_RANGE"]
    );
}

#[test]
fn restart_policies_are_not_there_yet() {
    assert_eq!(
        update_flaws(&["restart_policy"], Default::default()),
        ["update.restart_policy unsupported"]
    );
}

#[test]
fn labels_need_no_mask() {
    let message = v1::ContainerUpdate {
        set_labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        remove_labels: vec!["b".to_owned()],
        ..Default::default()
    };
    let update = parsed(&[], message);
    assert_eq!(update.set_labels["a"], "1");
    assert_eq!(update.remove_labels, ["b"]);
}

#[test]
fn a_label_is_set_or_removed_but_not_both() {
    let message = v1::ContainerUpdate {
        set_labels: BTreeMap::from([("a".to_owned(), String::new())]),
        remove_labels: vec!["a".to_owned(), String::new()],
        ..Default::default()
    };
    assert_eq!(
        update_flaws(&[], message),
        [
            "update.remove_labels[0] CONFLICT",
            "update.remove_labels[1] REQUIRED"
        ]
    );
}

#[test]
fn an_update_that_changes_nothing_is_refused() {
    assert_eq!(update_flaws(&[], Default::default()), ["update REQUIRED"]);
    let empty = v1::UpdateContainerRequest::default();
    assert_eq!(flaws(|out| update(empty, out)), ["update REQUIRED"]);
}
