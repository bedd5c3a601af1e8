//! `--filter key=value`, as docker has it. Values of one key are ORed, keys are ANDed.

use std::fmt;

use wharf_client::v1::container::State;
use wharf_client::v1::{ContainerFilter, EventFilter, ImageFilter, event, health};

use super::failure::Failure;
use super::human;
use super::image_names;

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Reads one filter.
pub(crate) fn pair(text: &str) -> Result<Pair, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not key=value"))?;
    Ok(Pair {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

fn unknown(pair: &Pair, known: &str) -> Failure {
    Failure::Usage(format!(
        "filter {:?} is not one of {known}",
        pair.to_string()
    ))
}

/// A filter of containers; nothing without pairs.
pub(crate) fn containers(pairs: &[Pair]) -> Result<Option<ContainerFilter>, Failure> {
    let mut filter = ContainerFilter::default();
    for pair in pairs {
        let value = pair.value.clone();
        match pair.key.as_str() {
            "id" => filter.id_prefixes.push(value),
            "name" => filter.names.push(value),
            "ancestor" | "image" => filter.images.push(value),
            "status" => filter
                .states
                .extend(states(pair)?.iter().map(|&s| i32::from(s))),
            "health" => filter.health_states.push(health(pair)?.into()),
            "label" => match value.split_once('=') {
                Some((key, value)) => {
                    filter.labels.insert(key.to_owned(), value.to_owned());
                }
                None => filter.label_keys.push(value),
            },
            _ => {
                return Err(unknown(
                    pair,
                    "id=, name=, ancestor=, status=, health=, label=",
                ));
            }
        }
    }
    Ok((!pairs.is_empty()).then_some(filter))
}

/// What docker shows as running: whatever has, or is about to have, a process.
pub(crate) const RUNNING: &[State] = &[
    State::Starting,
    State::Running,
    State::Paused,
    State::Stopping,
    State::BackingOff,
];

/// Wharf's states by name, and docker's names for them.
fn states(pair: &Pair) -> Result<&'static [State], Failure> {
    match pair.value.to_ascii_lowercase().replace('_', "-").as_str() {
        "creating" => Ok(&[State::Creating]),
        "created" => Ok(&[State::Created]),
        "starting" => Ok(&[State::Starting]),
        "running" => Ok(&[State::Running]),
        "paused" => Ok(&[State::Paused]),
        "stopping" => Ok(&[State::Stopping]),
        "exited" => Ok(&[State::Exited]),
        "backing-off" | "restarting" => Ok(&[State::BackingOff]),
        "deleting" | "removing" => Ok(&[State::Deleting]),
        "failed" | "dead" => Ok(&[State::Failed]),
        _ => Err(unknown(
            pair,
            "status=creating, created, starting, running, paused, stopping, exited, backing-off, deleting, failed",
        )),
    }
}

fn health(pair: &Pair) -> Result<health::State, Failure> {
    match pair.value.as_str() {
        "none" => Ok(health::State::Unspecified),
        "starting" => Ok(health::State::Starting),
        "healthy" => Ok(health::State::Healthy),
        "unhealthy" => Ok(health::State::Unhealthy),
        _ => Err(unknown(pair, "health=none, starting, healthy, unhealthy")),
    }
}

/// A filter of images; nothing without pairs.
pub(crate) fn images(pairs: &[Pair]) -> Result<Option<ImageFilter>, Failure> {
    let mut filter = ImageFilter::default();
    for pair in pairs {
        match (pair.key.as_str(), pair.value.as_str()) {
            ("reference", reference) => filter.references.push(reference.to_owned()),
            ("dangling", "true") => filter.dangling = Some(true),
            ("dangling", "false") => filter.dangling = Some(false),
            ("unused", "true") => filter.unused = Some(true),
            ("unused", "false") => filter.unused = Some(false),
            ("label", _) => {
                let (key, value) = full_label(pair)?;
                filter.labels.insert(key, value);
            }
            _ => {
                return Err(unknown(
                    pair,
                    "reference=, dangling=true|false, unused=true|false, label=KEY=VALUE",
                ));
            }
        }
    }
    Ok((!pairs.is_empty()).then_some(filter))
}

/// A filter of events. `container=` takes ids here; the caller resolves names first.
pub(crate) fn events(pairs: &[Pair]) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter::default();
    for pair in pairs {
        let value = pair.value.clone();
        match pair.key.as_str() {
            "type" | "event" => filter.types.push(event_type(pair)?.into()),
            "container" => filter.container_ids.push(value),
            "image" => filter.images.extend(image_spellings(value)),
            "request" => filter.request_ids.push(value),
            "label" => {
                let (key, value) = full_label(pair)?;
                filter.labels.insert(key, value);
            }
            _ => {
                return Err(unknown(
                    pair,
                    "type=, container=, image=, label=KEY=VALUE, request=",
                ));
            }
        }
    }
    Ok(filter)
}

/// An image by all the names that events may have for it: those of containers have it as it was asked for, those of
/// images whole. The server compares exactly.
fn image_spellings(image: String) -> Vec<String> {
    if image_names::is_id(&image) {
        return vec![image];
    }
    let whole = image_names::whole(&image);
    let mut spellings = vec![image, human::familiar(&whole).to_owned(), whole];
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

fn full_label(pair: &Pair) -> Result<(String, String), Failure> {
    let (key, value) = pair
        .value
        .split_once('=')
        .ok_or_else(|| unknown(pair, "label=KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// "container-exited", "container_exited" or "TYPE_CONTAINER_EXITED".
fn event_type(pair: &Pair) -> Result<event::Type, Failure> {
    let name = pair.value.to_ascii_uppercase().replace('-', "_");
    let full = match name.starts_with("TYPE_") {
        true => name,
        false => format!("TYPE_{name}"),
    };
    event::Type::from_str_name(&full)
        .filter(|kind| *kind != event::Type::Unspecified)
        .ok_or_else(|| unknown(pair, "type=container-started, type=container-exited, …"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn pairs(texts: &[&str]) -> Vec<Pair> {
        texts.iter().map(|text| pair(text).unwrap()).collect()
    }

    #[test]
    fn container_filters_become_typed() {
        let texts = [
            "label=a=b",
            "label=c",
            "name=web",
            "status=exited",
            "status=restarting",
        ];
        let filter = containers(&pairs(&texts)).unwrap().unwrap();
        assert_eq!(filter.labels.get("a").unwrap(), "b");
        assert_eq!(filter.label_keys, ["c"]);
        assert_eq!(filter.names, ["web"]);
        let states: Vec<_> = filter.states().collect();
        assert_eq!(states, [State::Exited, State::BackingOff]);
        assert_eq!(containers(&[]).unwrap(), None);
    }

    #[test]
    fn event_types_have_short_names() {
        let filter = events(&pairs(&[
            "type=container-exited",
            "event=TYPE_EXEC_STARTED",
            "request=r",
        ]))
        .unwrap();
        let types: Vec<_> = filter.types().collect();
        assert_eq!(
            types,
            [event::Type::ContainerExited, event::Type::ExecStarted]
        );
        assert_eq!(filter.request_ids, ["r"]);
    }

    #[test]
    fn an_image_of_events_is_meant_however_it_is_written() {
        let images = |text: &str| events(&pairs(&[text])).unwrap().images;
        let whole = "docker.io/library/alpine:3.22";
        assert_eq!(images("image=alpine:3.22"), ["alpine:3.22", whole]);
        assert_eq!(
            images("image=docker.io/library/alpine:3.22"),
            ["alpine:3.22", whole]
        );
        let id = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(images(&format!("image={id}")), [id]);
        assert_eq!(images("image=0123456789ab"), ["0123456789ab"]);
    }

    #[test]
    fn what_is_no_filter_is_bad_usage() {
        for text in ["color=red", "status=happy", "health=ok"] {
            assert!(matches!(
                containers(&pairs(&[text])),
                Err(Failure::Usage(_))
            ));
        }
        assert!(events(&pairs(&["type=container-danced"])).is_err());
        assert!(images(&pairs(&["label=bare"])).is_err());
        assert!(pair("bare").is_err());
    }
}
