//! Which events somebody wants.

use std::collections::HashSet;

use crate::model::event::{EventKind, EventType};
use crate::model::spec::TextMap;
use crate::model::{ContainerId, NewEvent, RequestId};

/// Selects events: fields are ANDed, values of one field ORed, labels ANDed; empty fields select all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Types of event; `Some` of none at all selects nothing.
    pub types: Option<HashSet<EventType>>,
    /// Containers by id.
    pub containers: HashSet<ContainerId>,
    /// The container's labels, before or after an update.
    pub labels: TextMap,
    /// Images, as in the event.
    pub images: HashSet<String>,
    /// What these calls caused.
    pub request_ids: HashSet<RequestId>,
}

impl Filter {
    /// Whether `event` is wanted.
    #[must_use]
    pub fn matches(&self, event: &NewEvent) -> bool {
        self.matches_type(event) && self.matches_container(event) && self.matches_origin(event)
    }

    fn matches_type(&self, event: &NewEvent) -> bool {
        self.types
            .as_ref()
            .is_none_or(|types| types.contains(&event.kind.event_type()))
    }

    fn matches_container(&self, event: &NewEvent) -> bool {
        let container = event.container.as_ref();
        let id_fits = self.containers.is_empty()
            || container.is_some_and(|c| self.containers.contains(&c.id));
        let labels_fit = self.labels.is_empty()
            || container.is_some_and(|c| {
                has_all(&c.labels, &self.labels)
                    || previous_labels(&event.kind).is_some_and(|old| has_all(old, &self.labels))
            });
        id_fits && labels_fit
    }

    fn matches_origin(&self, event: &NewEvent) -> bool {
        let image_fits = self.images.is_empty()
            || event
                .image
                .as_deref()
                .is_some_and(|image| self.images.contains(image));
        let request_fits = self.request_ids.is_empty()
            || event
                .cause
                .as_ref()
                .is_some_and(|cause| self.request_ids.contains(&cause.request_id));
        image_fits && request_fits
    }
}

fn previous_labels(kind: &EventKind) -> Option<&TextMap> {
    if let EventKind::ContainerUpdated {
        previous_labels, ..
    } = kind
    {
        previous_labels.as_deref()
    } else {
        None
    }
}

fn has_all(labels: &TextMap, wanted: &TextMap) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
