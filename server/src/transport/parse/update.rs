//! Updates: what the mask names is changed, and nothing else.
//!
//! A path that the mask names and the request leaves empty is cleared: it gets its default. A value
//! that is set and not named is a mistake, and so is an update that changes nothing; both are refused.
//! Labels need no mask, since adding and removing them says which ones.

use std::collections::BTreeSet;

use wharf_api::v1;

use super::{Field, labels, name, reason, resources, spec};
use crate::engine::{ResourceChange, UpdateContainer};
use crate::model::limits;
use crate::transport::Violations;

const NAME: &str = "name";
const RESOURCES: &str = "resources";
const RESTART_POLICY: &str = "restart_policy";

/// What a mask can name in `resources`, and whether a message sets it.
type ResourceField = (&'static str, fn(&v1::Resources) -> bool);

const RESOURCE_FIELDS: [ResourceField; 8] = [
    ("resources.cpu_limit_millicores", |r| {
        r.cpu_limit_millicores.is_some()
    }),
    ("resources.cpu_weight", |r| r.cpu_weight.is_some()),
    ("resources.cpuset_cpus", |r| !r.cpuset_cpus.is_empty()),
    ("resources.memory_limit_bytes", |r| {
        r.memory_limit_bytes.is_some()
    }),
    ("resources.memory_reservation_bytes", |r| {
        r.memory_reservation_bytes.is_some()
    }),
    ("resources.swap_limit_bytes", |r| {
        r.swap_limit_bytes.is_some()
    }),
    ("resources.pids_limit", |r| r.pids_limit.is_some()),
    ("resources.io_weight", |r| r.io_weight.is_some()),
];

/// The paths a mask names, each known and once.
type Paths = BTreeSet<&'static str>;

/// Reads an update.
pub(crate) fn update(request: v1::UpdateContainerRequest, out: &mut Violations) -> UpdateContainer {
    let field = Field::new("update");
    let mask = request.update_mask.unwrap_or_default().paths;
    let update = request.update.unwrap_or_default();
    if update == v1::ContainerUpdate::default() && mask.is_empty() {
        field.missing(out);
    }
    let paths = known_paths(&mask, out);
    check_restart_policy(&update, &paths, &field, out);
    check_label_keys(&update, &field, out);
    UpdateContainer {
        resources: resource_changes(update.resources, &paths, &field, out),
        name: new_name(update.name, &paths, &field, out),
        set_labels: labels::labels(update.set_labels, &field.child("set_labels"), out),
        remove_labels: update.remove_labels,
        etag: name::etag(request.etag, &Field::new("etag"), out),
    }
}

fn known_paths(mask: &[String], out: &mut Violations) -> Paths {
    let field = Field::new("update_mask");
    let list = field.child("paths");
    let mut paths = Paths::new();
    if !list.count(mask.len(), limits::MAX_FILTER_VALUES, out) {
        return paths;
    }
    for (n, path) in mask.iter().enumerate() {
        match known_path(path) {
            Some(known) => {
                paths.insert(known);
            }
            None => list.at(n).reject(
                reason::UNKNOWN_VALUE,
                "is no path of ContainerUpdate that a mask can name",
                out,
            ),
        }
    }
    paths
}

fn known_path(path: &str) -> Option<&'static str> {
    let resources = RESOURCE_FIELDS.iter().map(|(name, _)| *name);
    [NAME, RESOURCES, RESTART_POLICY]
        .into_iter()
        .chain(resources)
        .find(|known| *known == path)
}

fn new_name(
    name: String,
    paths: &Paths,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<String> {
    let field = field.child(NAME);
    match (paths.contains(NAME), name.is_empty()) {
        (false, false) => not_in_mask(&field, out),
        (true, true) => field.missing(out),
        (true, false) | (false, true) => {}
    }
    name::new_container(name, &field, out)
}

fn check_restart_policy(
    update: &v1::ContainerUpdate,
    paths: &Paths,
    field: &Field<'_>,
    out: &mut Violations,
) {
    let field = field.child(RESTART_POLICY);
    if paths.contains(RESTART_POLICY) {
        field.unsupported(out);
    } else if update.restart_policy.is_some() {
        not_in_mask(&field, out);
    }
}

fn check_label_keys(update: &v1::ContainerUpdate, field: &Field<'_>, out: &mut Violations) {
    let field = field.child("remove_labels");
    if !field.count(update.remove_labels.len(), limits::MAX_FILTER_VALUES, out) {
        return;
    }
    for (n, key) in update.remove_labels.iter().enumerate() {
        let entry = field.at(n);
        if labels::check_key(key, &entry, out) && update.set_labels.contains_key(key) {
            entry.reject(reason::CONFLICT, "set_labels sets this label", out);
        }
    }
}

fn resource_changes(
    resources: Option<v1::Resources>,
    paths: &Paths,
    field: &Field<'_>,
    out: &mut Violations,
) -> Vec<ResourceChange> {
    let field = field.child(RESOURCES);
    if paths.contains(RESOURCES) {
        return vec![ResourceChange {
            path: RESOURCES.to_owned(),
            from: spec::all_resources(resources, &field, out),
        }];
    }
    if let Some(resources) = &resources {
        check_resources_in_mask(resources, paths, &field, out);
    }
    let from = spec::with_defaults(resources::resources(
        resources.unwrap_or_default(),
        &field,
        out,
    ));
    let is_field = |path: &&&str| path.starts_with(RESOURCES);
    paths
        .iter()
        .filter(is_field)
        .map(|path| ResourceChange {
            path: (*path).to_owned(),
            from: from.clone(),
        })
        .collect()
}

fn check_resources_in_mask(
    resources: &v1::Resources,
    paths: &Paths,
    field: &Field<'_>,
    out: &mut Violations,
) {
    let mut any = false;
    for (path, is_set) in RESOURCE_FIELDS {
        any |= paths.contains(path);
        if is_set(resources) && !paths.contains(path) {
            let name = path.split_once('.').map_or(path, |(_, name)| name);
            not_in_mask(&field.child(name), out);
            any = true;
        }
    }
    if !any {
        not_in_mask(field, out);
    }
}

fn not_in_mask(field: &Field<'_>, out: &mut Violations) {
    field.reject(
        reason::NOT_IN_MASK,
        "is set, and update_mask does not name it",
        out,
    );
}
