//! Filters and views of containers.

use wharf_api::v1;
use wharf_api::v1::{ContainerView, container, health};

use super::{Field, labels, name, reason, time};
use crate::engine::query::ContainerFilter;
use crate::model::{State, limits};
use crate::oci::reference::ImageKey;
use crate::transport::Violations;

/// Shortest id prefix: shorter ones select by accident.
const MIN_PREFIX: usize = 4;

/// Reads which containers are wanted; no filter wants all.
pub(super) fn containers(
    filter: Option<v1::ContainerFilter>,
    field: &Field<'_>,
    out: &mut Violations,
) -> ContainerFilter {
    let filter = filter.unwrap_or_default();
    let (before, after) = (
        field.child("create_time_before"),
        field.child("create_time_after"),
    );
    ContainerFilter {
        id_prefixes: values(filter.id_prefixes, &field.child("id_prefixes"), out, prefix),
        names: values(filter.names, &field.child("names"), out, container_name),
        images: values(filter.images, &field.child("images"), out, image),
        states: values(filter.states, &field.child("states"), out, state),
        labels: labels::wanted(filter.labels, &field.child("labels"), out),
        label_keys: values(
            filter.label_keys,
            &field.child("label_keys"),
            out,
            label_key,
        ),
        any_health: !values::<_, (), Vec<_>>(
            filter.health_states,
            &field.child("health_states"),
            out,
            health_state,
        )
        .is_empty(),
        created_before: time::timestamp(filter.create_time_before, &before, out),
        created_after: time::timestamp(filter.create_time_after, &after, out),
    }
}

/// Reads the values of one repeated filter field, each by `read`.
pub(super) fn values<V, T, C: FromIterator<T>>(
    values: Vec<V>,
    field: &Field<'_>,
    out: &mut Violations,
    read: impl Fn(V, &Field<'_>, &mut Violations) -> Option<T>,
) -> C {
    if !field.count(values.len(), limits::MAX_FILTER_VALUES, out) {
        return C::from_iter(None);
    }
    values
        .into_iter()
        .enumerate()
        .filter_map(|(n, value)| read(value, &field.at(n), out))
        .collect()
}

fn prefix(prefix: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !(MIN_PREFIX..=32).contains(&prefix.len()) || !prefix.bytes().all(is_digit) {
        field.reject(reason::MALFORMED, "must be 4 to 32 hex digits", out);
    }
    Some(prefix)
}

fn container_name(name: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    name::container(&name, field, out);
    Some(name)
}

/// Images are compared as containers name them: by id or normalised reference.
fn image(image: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    name::image(&image, field, out).map(|key| match key {
        ImageKey::Id(digest) => digest.to_string(),
        ImageKey::Reference(reference) => reference,
    })
}

fn label_key(key: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    labels::check_key(&key, field, out);
    Some(key)
}

fn state(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<State> {
    Some(match field.enumeration(number, out)? {
        container::State::Unspecified => {
            field.missing(out);
            return None;
        }
        container::State::Creating => State::Creating,
        container::State::Created => State::Created,
        container::State::Starting => State::Starting,
        container::State::Running => State::Running,
        container::State::Paused => State::Paused,
        container::State::Stopping => State::Stopping,
        container::State::Exited => State::Exited,
        container::State::BackingOff => State::BackingOff,
        container::State::Deleting => State::Deleting,
        container::State::Failed => State::Failed,
    })
}

fn health_state(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<()> {
    let state: health::State = field.enumeration(number, out)?;
    if state == health::State::Unspecified {
        field.missing(out);
    }
    Some(())
}

/// Reads how much of a container is wanted; `default` if that is not said.
pub(crate) fn view(
    view: i32,
    default: ContainerView,
    field: &Field<'_>,
    out: &mut Violations,
) -> ContainerView {
    match field.enumeration(view, out) {
        None | Some(ContainerView::Unspecified) => default,
        Some(view) => view,
    }
}
