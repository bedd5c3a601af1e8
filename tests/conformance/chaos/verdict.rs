//! The promises, checked when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use wharf_api::v1::{Container, Event, container::State, event::Type, exit_status::Reason};

use super::life::Lived;
use crate::harness::{Client, World, events};

/// No hole, no repeat; and for each container: created, then runs that start and end once, then deleted.
pub fn on_the_journal(journal: &[Event]) {
    events::must_be_dense(journal);
    let mut stories: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in journal
        .iter()
        .filter(|event| !event.container_id.is_empty())
    {
        stories.entry(&event.container_id).or_default().push(event);
    }
    for (id, story) in stories {
        must_be_a_story(id, &story);
    }
}

fn must_be_a_story(id: &str, story: &[&Event]) {
    let (mut created, mut deleted, mut running) = (false, false, None);
    let mut next_run = 1;
    for event in story {
        assert!(!deleted, "{id}: {event:?} after its deletion");
        assert_eq!(
            created,
            event.r#type() != Type::ContainerCreated,
            "{id}: {event:?}"
        );
        match event.r#type() {
            Type::ContainerCreated => created = true,
            Type::ContainerStarted => {
                assert_eq!((running, event.run), (None, next_run), "{id}: {event:?}");
                running = Some(event.run);
            }
            Type::ContainerExited => {
                assert_eq!(running.take(), Some(event.run), "{id}: {event:?}");
                next_run = event.run + 1;
            }
            Type::ContainerDeleted => deleted = true,
            _ => {}
        }
    }
}

/// What was acknowledged is there, once, with the end that the program had.
pub async fn on_lives(client: &Client, journal: &[Event], lives: &[Lived], notes: &Path) {
    let all = client.list().await.unwrap();
    for lived in lives {
        let found: Vec<_> = all
            .iter()
            .filter(|container| container.name == lived.name)
            .collect();
        let expected = usize::from(!lived.deleted);
        assert_eq!(found.len(), expected, "{lived:?}: {found:?}");
        assert!(
            found.iter().all(|container| container.id == lived.id),
            "{found:?}"
        );
        must_have_run(lived, found.first().copied(), notes);
        must_be_told(lived, journal);
    }
}

fn must_have_run(lived: &Lived, container: Option<&Container>, notes: &Path) {
    let starts = fs::read_to_string(notes.join(&lived.name))
        .unwrap_or_default()
        .lines()
        .count();
    // A run that was stopped at once may not have come to its first line.
    let certain = lived
        .exits
        .iter()
        .filter(|exit| exit.reason() == Reason::Exited)
        .count();
    assert!(
        (certain..=lived.exits.len()).contains(&starts),
        "{starts} starts: {lived:?}"
    );
    for exit in &lived.exits {
        let by_itself = exit.reason() == Reason::Exited && exit.code == lived.code;
        let killed = exit.reason() == Reason::Signaled && exit.code == 137;
        assert!(
            by_itself || (killed && exit.cause.is_some()),
            "{exit:?} of {lived:?}"
        );
    }
    if let Some(container) = container {
        let never_ran = lived.exits.is_empty();
        let rests = if never_ran {
            State::Created
        } else {
            State::Exited
        };
        assert_eq!(container.state(), rests, "{lived:?}");
        assert_eq!(container.exit_status, lived.exits.last().cloned());
    }
}

fn must_be_told(lived: &Lived, journal: &[Event]) {
    let own: Vec<_> = journal
        .iter()
        .filter(|event| event.container_name == lived.name)
        .collect();
    let of = |kind| own.iter().filter(|event| event.r#type() == kind).count();
    assert_eq!(of(Type::ContainerCreated), 1, "{lived:?}");
    assert_eq!(of(Type::ContainerExited), lived.exits.len(), "{lived:?}");
    assert_eq!(
        of(Type::ContainerDeleted),
        usize::from(lived.deleted),
        "{lived:?}"
    );
    assert!(
        own.iter().all(|event| event.container_id == lived.id),
        "{lived:?}"
    );
}

/// Containers that ran still run, as the same process, and can be stopped.
pub async fn on_survivors(client: &Client, survivors: &[Container]) {
    for before in survivors {
        let now = client.get(&before.id).await.unwrap();
        assert_eq!(
            (now.state(), now.run, now.pid),
            (State::Running, 1, before.pid)
        );
        assert!(Path::new(&format!("/proc/{}", now.pid)).exists());
        let stopped = client
            .stop(&before.id, Duration::from_secs(30))
            .await
            .unwrap();
        let exit = stopped.exit_status.unwrap();
        assert_eq!((exit.reason(), exit.code), (Reason::Exited, 0), "{exit:?}");
    }
}

/// The backend has exactly the containers that the server knows.
pub async fn on_the_backend(client: &Client, world: &World) {
    let all = client.list().await.unwrap();
    let known: BTreeSet<_> = all.into_iter().map(|container| container.id).collect();
    assert_eq!(world.containers_of_the_backend().await, known);
}

/// A watcher that resumed after each break has seen every event once, in order.
pub fn on_the_watch(watched: &[Event], journal: &[Event], last: &str) {
    let end = journal
        .iter()
        .position(|event| event.container_name == last)
        .unwrap();
    assert_eq!(watched, &journal[..=end]);
}
