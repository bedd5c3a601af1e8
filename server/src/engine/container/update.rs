//! Updating: name, labels and limits. Limits change at once, also for a running container.

use std::sync::Arc;

use super::actor::{Actor, Outcome};
use super::command::Reply;
use super::control::Controlled;
use super::record::Draft;
use crate::backend::{Backend, BackendError, ContainerBackend, Task, TaskHandle};
use crate::engine::{Error, ResourceChange, UpdateContainer};
use crate::model::event::EventKind;
use crate::model::spec::{ContainerSpec, Resources, TextMap};
use crate::model::{Cause, Container};

/// An update that waits for the backend.
pub(super) struct Updating {
    draft: Draft,
    reply: Reply<Arc<Container>>,
}

impl Actor {
    pub(super) async fn update(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        update: UpdateContainer,
        reply: Reply<Arc<Container>>,
    ) {
        let current = self.record.container();
        // Again, as other updates may have come in between.
        if let Err(error) = check_labels(&current.labels, &update) {
            return drop(reply.send(Err(error)));
        }
        let (next, paths) = changed(current, &update);
        if paths.is_empty() {
            return drop(reply.send(Ok(self.record.snapshot())));
        }
        if let Some((field, problem)) = next.spec.resources.conflict() {
            let error = Error::InvalidField {
                field: format!("update.resources.{field}"),
                problem: problem.to_owned(),
            };
            return drop(reply.send(Err(error)));
        }
        if let Err(error) = self.core.registry.reserve_name(next.id, &next.name) {
            return drop(reply.send(Err(error)));
        }
        let relabelled = next.labels != current.labels;
        let previous_labels = relabelled.then(|| current.labels.clone());
        let limits_change = next.spec != current.spec;
        let mut draft = self.record.draft();
        draft.next = Container {
            generation: draft.next.generation,
            update_time: draft.next.update_time,
            ..next.clone()
        };
        let draft = draft
            .event(
                EventKind::ContainerUpdated {
                    paths,
                    previous_labels,
                },
                Some(cause),
            )
            .synced();
        let updating = Updating { draft, reply };
        if !limits_change {
            return self.updated(updating, Ok(())).await;
        }
        let (backend, task) = (
            self.core.backend.clone(),
            self.task.clone().filter(|_| !self.remains),
        );
        self.begin(span, async move {
            let result = apply(&backend, task, &next).await;
            Outcome::controlled(Controlled::Updated {
                updating: Box::new(updating),
                result,
            })
        });
    }

    pub(super) async fn updated(&mut self, updating: Updating, result: Result<(), BackendError>) {
        let Updating { draft, reply } = updating;
        let id = self.record.container().id;
        let (old_name, new_name) = (
            self.record.container().name.clone(),
            draft.next.name.clone(),
        );
        let committed = match result {
            Ok(()) => self.record.commit(draft).await,
            // Limits that may or may not hold are said to be as they were, until the next change.
            Err(error) => {
                self.doubt_if_missing(&error);
                Err(error.into())
            }
        };
        if old_name != new_name {
            let unused = if committed.is_ok() {
                &old_name
            } else {
                &new_name
            };
            self.core.registry.release_name(id, unused);
        }
        drop(reply.send(committed.map(|()| self.record.snapshot())));
    }
}

async fn apply(
    backend: &Backend,
    task: Option<TaskHandle>,
    next: &Container,
) -> Result<(), BackendError> {
    let updated = match task {
        Some(task) => task.update(&next.spec.resources).await,
        None => Ok(()),
    };
    match updated {
        // One whose process has just ended is updated as of its next start.
        Ok(()) | Err(BackendError::NotFound { .. }) => backend.update(next).await,
        Err(error) => Err(error),
    }
}

/// The container after the update, and the paths of what changes.
fn changed(current: &Container, update: &UpdateContainer) -> (Container, Vec<String>) {
    let mut next = current.clone();
    let mut paths = Vec::new();
    if let Some(name) = &update.name
        && **name != *current.name
    {
        next.name = name.as_str().into();
        paths.push("name".to_owned());
    }
    let labels = relabelled(&current.labels, update, &mut paths);
    if labels != *current.labels {
        next.labels = Arc::new(labels);
    }
    let resources = limited(&current.spec.resources, &update.resources, &mut paths);
    if resources != current.spec.resources {
        next.spec = Arc::new(ContainerSpec {
            resources,
            ..ContainerSpec::clone(&current.spec)
        });
    }
    (next, paths)
}

fn relabelled(current: &TextMap, update: &UpdateContainer, paths: &mut Vec<String>) -> TextMap {
    let mut labels = current.clone();
    for key in &update.remove_labels {
        if labels.remove(key).is_some() {
            paths.push(format!("labels.{key}"));
        }
    }
    for (key, value) in &update.set_labels {
        if labels.insert(key.clone(), value.clone()).as_ref() != Some(value) {
            paths.push(format!("labels.{key}"));
        }
    }
    labels
}

fn limited(current: &Resources, changes: &[ResourceChange], paths: &mut Vec<String>) -> Resources {
    let mut resources = current.clone();
    for change in changes {
        let before = resources.clone();
        change.apply(&mut resources);
        if resources != before {
            paths.push(format!("spec.{}", change.path));
        }
    }
    resources
}

impl ResourceChange {
    fn apply(&self, resources: &mut Resources) {
        let from = self.from.clone();
        match self
            .path
            .strip_prefix("resources")
            .map(|rest| rest.trim_start_matches('.'))
        {
            Some("") => *resources = from,
            Some("cpu_limit_millicores") => {
                resources.cpu_limit_millicores = from.cpu_limit_millicores
            }
            Some("cpu_weight") => resources.cpu_weight = from.cpu_weight,
            Some("cpuset_cpus") => resources.cpuset_cpus = from.cpuset_cpus,
            Some("memory_limit_bytes") => resources.memory_limit_bytes = from.memory_limit_bytes,
            Some("memory_reservation_bytes") => {
                resources.memory_reservation_bytes = from.memory_reservation_bytes;
            }
            Some("swap_limit_bytes") => resources.swap_limit_bytes = from.swap_limit_bytes,
            Some("pids_limit") => resources.pids_limit = from.pids_limit,
            Some("io_weight") => resources.io_weight = from.io_weight,
            // The parser lets no other path through.
            Some(_) | None => {}
        }
    }
}

/// Whether the labels would still be within their limits after an update.
pub(crate) fn check_labels(current: &TextMap, update: &UpdateContainer) -> Result<(), Error> {
    use crate::model::limits::{MAX_LABELS, MAX_LABELS_BYTES};
    let labels = relabelled(current, update, &mut Vec::new());
    let bytes: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if labels.len() > MAX_LABELS || bytes > MAX_LABELS_BYTES {
        let problem = format!(
            "there would be {} labels of {bytes} bytes; at most {MAX_LABELS} of {MAX_LABELS_BYTES} are kept",
            labels.len()
        );
        return Err(Error::InvalidField {
            field: "update.set_labels".to_owned(),
            problem,
        });
    }
    Ok(())
}
