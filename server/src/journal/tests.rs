//! Reading the journal: from memory, from disk, by page, and while the old end goes.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::event::EventType;
use crate::model::spec::TextMap;
use crate::model::{Container, EventKind, NewEvent, RequestId};
use crate::store::Options;
use crate::store::tests::{
    TestStore, all_events, assert_dense, cause, container, container_event, options, second,
    system_event, written,
};

fn query(direction: Direction) -> Query {
    Query {
        filter: Filter::default(),
        since: None,
        until: None,
        direction,
        from: None,
        limit: 100,
        max_bytes: usize::MAX,
    }
}

/// All pages of a query.
async fn pages(journal: &Journal, mut query: Query) -> Vec<Vec<Arc<Event>>> {
    let mut pages = Vec::new();
    loop {
        let (events, next) = journal.page(query.clone()).await.unwrap();
        pages.push(events);
        match next {
            Some(next) => query.from = Some(next),
            None => return pages,
        }
    }
}

fn sequences(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.sequence.0).collect()
}

/// A journal of many kinds of events, `rounds` times seven.
async fn varied(rounds: u64) -> (TestStore, Vec<Container>) {
    let test = TestStore::new();
    let containers = vec![container("a"), container("b")];
    let mut events = Vec::new();
    for round in 0..rounds {
        for (index, container) in containers.iter().enumerate() {
            let time = 10 * round + index as u64;
            let mut created = container_event(time, EventKind::ContainerCreated, container);
            created.cause = Some(cause(&format!("create-{}", round % 3)));
            events.push(created);
            let started = container_event(time, EventKind::ContainerStarted, container);
            events.push(started);
        }
        let mut imported = system_event(10 * round + 5);
        imported.kind = EventKind::ImageImported;
        imported.image = Some("example.org/other:2".into());
        events.push(imported);
        events.push(relabelled(10 * round + 6, &containers[0]));
        events.push(system_event(10 * round + 7));
    }
    test.store.commit(written([], events)).await.unwrap();
    (test, containers)
}

fn relabelled(time: u64, container: &Container) -> NewEvent {
    let kind = EventKind::ContainerUpdated {
        paths: vec!["labels.app".to_owned()],
        previous_labels: Some(Arc::clone(&container.labels)),
    };
    let mut event = container_event(time, kind, container);
    let labels = TextMap::from([("app".to_owned(), "new".to_owned())]);
    event.container.as_mut().unwrap().labels = Arc::new(labels);
    event
}

#[tokio::test]
async fn recent_events_are_shared_and_old_ones_read_from_disk() {
    let test = TestStore::new();
    test.append((0..10).map(system_event)).await;
    let journal = test.journal();
    let first = journal.read(Sequence(3), 4).await.unwrap();
    let second = journal.read(Sequence(3), 4).await.unwrap();
    assert_eq!(sequences(&first), [4, 5, 6, 7]);
    assert!(Arc::ptr_eq(&first[0], &second[0]));
    assert!(journal.read(Sequence(10), 4).await.unwrap().is_empty());

    let test = test.reopen();
    test.append([system_event(10)]).await;
    let journal = test.journal();
    assert_eq!(journal.read(Sequence(3), 4).await.unwrap(), first);
    let last = journal.read(Sequence(10), 4).await.unwrap();
    assert_eq!(sequences(&last), [11]);
    assert_eq!(assert_dense(journal).await, 11);
}

#[tokio::test]
async fn a_read_ends_early_if_events_are_large_but_gives_one_at_least() {
    let test = TestStore::new();
    let large = |n| {
        let mut event = system_event(n);
        event.image = Some("x".repeat(tail::READ_BYTES).into());
        event
    };
    test.append((0..12).map(large)).await;
    // Some are in memory, the others fell off.
    assert_eq!(assert_dense(test.journal()).await, 12);
    let batch = test.journal().read(Sequence(0), 10).await.unwrap();
    assert_eq!(batch.len(), 1);
    let batch = test.journal().read(Sequence(10), 10).await.unwrap();
    assert_eq!(batch.len(), 1);
}

#[tokio::test]
async fn every_kind_of_event_reads_back_as_it_was() {
    let (test, _) = varied(1).await;
    let from_memory = all_events(test.journal()).await;
    let from_disk = all_events(test.reopen().journal()).await;
    assert_eq!(from_memory, from_disk);
}

#[tokio::test]
async fn a_time_is_found_between_events() {
    let test = TestStore::new();
    test.append([10, 20, 30].map(system_event)).await;
    let journal = test.journal();
    for (time, position) in [(0, 0), (10, 0), (11, 1), (20, 1), (30, 2), (31, 3)] {
        let found = journal.position_at(second(time)).await.unwrap();
        assert_eq!(found, Sequence(position), "{time}");
    }
}

#[tokio::test]
async fn pages_in_either_direction_are_the_whole() {
    let (test, _) = varied(5).await;
    let whole = all_events(test.journal()).await;
    for limit in [1, 2, 7, 34, 35, 36, 100] {
        let ascending = Query {
            limit,
            ..query(Direction::Ascending)
        };
        let found = pages(test.journal(), ascending).await;
        assert!(
            found
                .iter()
                .all(|page| page.len() <= limit && !page.is_empty())
        );
        assert_eq!(found.concat(), whole);

        let descending = Query {
            limit,
            ..query(Direction::Descending)
        };
        let mut found = pages(test.journal(), descending).await.concat();
        found.reverse();
        assert_eq!(found, whole);
    }
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_but_has_one_event_at_least() {
    let (test, _) = varied(5).await;
    let whole = all_events(test.journal()).await;
    for max_bytes in [0, 300, 1_000] {
        let small = Query {
            max_bytes,
            ..query(Direction::Ascending)
        };
        let found = pages(test.journal(), small).await;
        assert!(found.len() > 5, "{}", found.len());
        assert!(found.iter().all(|page| !page.is_empty()));
        assert_eq!(found.concat(), whole);
    }
}

#[tokio::test]
async fn a_search_longer_than_one_slice_finds_everything() {
    let (test, _) = varied(700).await;
    let labels = TextMap::from([("app".to_owned(), "b".to_owned())]);
    let whole = all_events(test.journal()).await;
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut search = query(direction);
        search.filter.labels = labels.clone();
        search.limit = 1_000;
        let found = pages(test.journal(), search.clone()).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 400]);
        let matching = whole.iter().filter(|e| search.filter.matches(&e.body));
        assert_eq!(found.concat().len(), matching.count());
    }
}

#[tokio::test]
async fn a_page_has_only_what_is_between_its_times() {
    let (test, _) = varied(3).await;
    let mut search = query(Direction::Ascending);
    search.since = Some(second(10));
    search.until = Some(second(16));
    let (found, next) = test.journal().page(search).await.unwrap();
    assert_eq!(sequences(&found), [8, 9, 10, 11, 12]);
    assert_eq!(next, None);
}

#[tokio::test]
async fn requests_and_containers_are_looked_up_by_index() {
    let (test, containers) = varied(1).await;
    let plan = |filter: Filter| {
        let mut search = query(Direction::Descending);
        search.filter = filter;
        let sql = page::tests::explain(search);
        let connection = test.connect();
        let mut statement = connection.prepare(&sql).unwrap();
        let count = statement.parameter_count();
        let nulls = rusqlite::params_from_iter(vec![rusqlite::types::Null; count]);
        let rows = statement.query_map(nulls, |row| row.get::<_, String>(3));
        rows.unwrap()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let by_request = plan(Filter {
        request_ids: HashSet::from([RequestId::parse("r").unwrap()]),
        ..Filter::default()
    });
    assert!(by_request.contains("events_by_request"), "{by_request}");
    let by_container = plan(Filter {
        containers: HashSet::from([containers[0].id]),
        ..Filter::default()
    });
    assert!(
        by_container.contains("events_by_container"),
        "{by_container}"
    );
    let all = plan(Filter::default());
    assert!(all.contains("PRIMARY KEY"), "{all}");
}

prop_compose! {
    /// A filter over what [`varied`] makes, and a little that it does not.
    fn filters()(
        types in prop::option::of(prop::collection::hash_set(prop::sample::select(vec![
            EventType::ContainerCreated,
            EventType::ContainerUpdated,
            EventType::ImageImported,
            EventType::ContainerOom,
        ]), 0..3)),
        which in prop::collection::hash_set(0..3_usize, 0..3),
        label in prop::option::of(prop::sample::select(vec!["a", "b", "new", "none"])),
        image in prop::option::of(prop::sample::select(vec![
            "example.org/app:1", "example.org/other:2", "none",
        ])),
        requests in prop::collection::hash_set(0..4_u32, 0..3),
    ) -> (Filter, HashSet<usize>) {
        let filter = Filter {
            types,
            containers: HashSet::new(),
            labels: label.map(|l| ("app".to_owned(), l.to_owned())).into_iter().collect(),
            images: image.map(str::to_owned).into_iter().collect(),
            request_ids: requests
                .into_iter()
                .map(|n| RequestId::parse(&format!("create-{n}")).unwrap())
                .collect(),
        };
        (filter, which)
    }
}

#[test]
fn a_page_has_exactly_what_its_filter_matches() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (test, containers) = runtime.block_on(varied(4));
    let whole = runtime.block_on(all_events(test.journal()));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let check = |(mut filter, which): (Filter, HashSet<usize>)| {
        let id = |n: usize| {
            containers
                .get(n)
                .map_or_else(|| container("c").id, |c| c.id)
        };
        filter.containers = which.into_iter().map(id).collect();
        let wanted = whole.iter().filter(|e| filter.matches(&e.body)).cloned();
        let mut wanted: Vec<_> = wanted.collect();
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut search = query(direction);
            search.filter = filter.clone();
            search.limit = 3;
            let found = runtime.block_on(pages(test.journal(), search)).concat();
            prop_assert_eq!(&found, &wanted);
            wanted.reverse();
        }
        Ok(())
    };
    runner.run(&filters(), check).unwrap();
}

fn small(journal_bytes: u64) -> Options {
    Options {
        journal_bytes,
        ..options()
    }
}

#[tokio::test]
async fn the_oldest_events_go_when_the_journal_is_too_large() {
    let test = TestStore::with(small(20_000));
    for n in 0..20 {
        let events = (0..50).map(|_| system_event(n));
        test.store.commit(written([], events)).await.unwrap();
    }
    test.append([system_event(20)]).await;
    test.settle().await;
    let journal = test.journal();
    let (oldest, newest) = (journal.oldest(), *journal.newest().borrow());
    assert_eq!(newest, Sequence(1_001));
    assert!(newest.0 - oldest.0 < 200, "{oldest}");
    assert!(newest.0 - oldest.0 > 50, "{oldest}");
    assert!(journal.has_lost_since(second(0)));
    assert!(!journal.has_lost_since(second(20)));
    let kept = all_events(journal).await;
    assert_eq!(kept[0].sequence, oldest.next());
    assert_eq!(kept.last().unwrap().sequence, newest);

    let expired = journal.read(Sequence(oldest.0 - 1), 1).await;
    assert!(
        matches!(expired, Err(JournalError::Expired { oldest: o, .. }) if o == oldest),
        "{expired:?}"
    );
    for direction in [Direction::Ascending, Direction::Descending] {
        let mut search = query(direction);
        search.from = Some(Sequence(5));
        let expired = journal.page(search).await;
        assert!(matches!(expired, Err(JournalError::Expired { .. })));
    }
    let test = test.reopen();
    assert!(test.journal().oldest() >= oldest);
    assert!(test.journal().has_lost_since(second(0)));
}

#[tokio::test]
async fn a_journal_whose_events_are_all_too_old_keeps_its_numbering() {
    let test = TestStore::with(Options {
        journal_age: Duration::from_secs(600),
        ..options()
    });
    // An hour ago.
    test.append((0..5).map(system_event)).await;
    let all_gone = async {
        while test.journal().oldest() < Sequence(5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, all_gone).await.unwrap();
    let test = test.reopen();
    assert_eq!(test.journal().oldest(), Sequence(5));
    assert_eq!(*test.journal().newest().borrow(), Sequence(5));
    test.append([system_event(1)]).await;
    let events = test.journal().read(Sequence(5), 10).await.unwrap();
    assert_eq!(sequences(&events), [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slower_than_retention_is_told_and_never_finds_a_hole() {
    let test = TestStore::with(small(50_000));
    let journal = test.journal();
    let (mut after, mut expired) = (Sequence(0), 0);
    // While 200 events are written, and old ones go, ten are read; at the end, all that are left.
    for n in 0..100 {
        let events = (0..200).map(|_| system_event(n));
        let write = test.store.commit(written([], events));
        let (write, read) = tokio::join!(write, journal.read(after, 10));
        write.unwrap();
        after = next_position(after, read, &mut expired);
    }
    while after < Sequence(20_000) {
        let read = journal.read(after, 10).await;
        after = next_position(after, read, &mut expired);
    }
    assert!(expired > 0);
}

/// Where a reader at `after` goes on: after the events it got, which follow without a hole, or
/// where it was told that reading can begin.
fn next_position(
    after: Sequence,
    read: Result<Vec<Arc<Event>>, JournalError>,
    expired: &mut u32,
) -> Sequence {
    match read {
        Ok(events) => events.iter().fold(after, |after, event| {
            assert_eq!(event.sequence, after.next());
            event.sequence
        }),
        Err(JournalError::Expired { oldest, .. }) => {
            assert!(oldest > after);
            *expired += 1;
            oldest
        }
        Err(error @ JournalError::Unreadable { .. }) => panic!("{error}"),
    }
}

#[tokio::test]
async fn rows_that_somebody_removed_are_no_silent_hole() {
    let test = TestStore::new();
    test.append((0..10).map(system_event)).await;
    let test = test.reopen();
    let remove = "DELETE FROM events WHERE sequence IN (1, 5)";
    test.connect().execute(remove, []).unwrap();
    for after in [0, 3] {
        let read = test.journal().read(Sequence(after), 10).await;
        assert!(
            matches!(read, Err(JournalError::Unreadable { .. })),
            "{read:?}"
        );
    }
}
