//! Watches over a real journal and a made-up set of containers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::time::{self, Instant};

use super::*;
use crate::journal::JournalError;
use crate::model::event::EventType;
use crate::model::{EventKind, ExecId, Sequence, ServerId, samples};
use crate::store::Options;
use crate::store::tests::{
    TestStore, container, container_event, options as store_options, second, system_event, written,
};

/// Containers that a test sets.
#[derive(Debug, Clone, Default)]
struct Containers(Arc<Mutex<Vec<Arc<Container>>>>);

impl StateSource for Containers {
    fn containers(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Vec<Arc<Container>> {
        let containers = self.0.lock();
        let mut found: Vec<_> = containers
            .iter()
            .filter(|c| {
                filter.matches(c) && after.is_none_or(|after| ContainerPosition::of(c) > after)
            })
            .cloned()
            .collect();
        found.sort_by_key(|c| ContainerPosition::of(c));
        found.truncate(limit);
        found
    }

    /// Each container has as many execs as its name's last digit says.
    fn execs(&self, after: Option<ExecPosition>, limit: usize) -> Result<Vec<Arc<Exec>>, Error> {
        let containers = self.0.lock();
        let all = containers.iter().flat_map(|container| {
            let count = container.name.bytes().last().map_or(0, |b| b - b'0');
            (0..count).map(|n| Arc::new(exec(container, n)))
        });
        let mut found: Vec<_> = all
            .filter(|exec| after.is_none_or(|after| ExecPosition::of(exec) > after))
            .collect();
        found.sort_by_key(|exec| ExecPosition::of(exec));
        found.truncate(limit);
        Ok(found)
    }
}

/// The same for each number, however often it is asked for.
fn exec(container: &Container, n: u8) -> Exec {
    let mut id = *container.id.as_bytes();
    id[0] = n;
    Exec {
        id: ExecId::from_bytes(id),
        ..samples::exec(container)
    }
}

impl Containers {
    fn of(count: usize) -> Self {
        let containers = (0..count).map(|n| Arc::new(container(&format!("c{n}"))));
        Self(Arc::new(Mutex::new(containers.collect())))
    }
}

fn watch(start: WatchStart) -> WatchOptions {
    WatchOptions {
        start,
        until: None,
        filter: Filter::default(),
        progress_interval: Duration::from_secs(30),
        gap_policy: GapPolicy::Fail,
    }
}

async fn open(test: &TestStore, options: WatchOptions) -> Result<Follower<Containers>, Error> {
    Follower::open(test.journal().clone(), Containers::of(3), options).await
}

/// The next item, which must come, as a word, and the sequence of the cursor after it.
async fn told(watch: &mut Follower<Containers>) -> (String, Option<u64>) {
    let (cursor, item) = watch.next().await.unwrap().expect("it goes on");
    let word = match item {
        WatchItem::Started { .. } => "started".to_owned(),
        WatchItem::Container(container) => container.name.to_string(),
        WatchItem::Exec(exec) => format!("exec {}", exec.id.as_bytes()[0]),
        WatchItem::Synced { containers, execs } => format!("synced {containers} {execs}"),
        WatchItem::Event(event) => format!("event {}", event.sequence),
        WatchItem::Progress => "progress".to_owned(),
        WatchItem::Gap { reason, missed } => format!("gap {reason:?} {missed}"),
    };
    (word, cursor.map(|cursor| cursor.sequence.0))
}

async fn assert_told(watch: &mut Follower<Containers>, expected: &[(&str, Option<u64>)]) {
    for (word, cursor) in expected {
        assert_eq!(told(watch).await, ((*word).to_owned(), *cursor));
    }
}

/// A journal of 1,001 events of which the first 900 or so are gone.
async fn trimmed() -> TestStore {
    let test = TestStore::with(Options {
        journal_bytes: 20_000,
        ..store_options()
    });
    trim(&test).await;
    assert!(test.journal().oldest() > Sequence(800));
    test
}

async fn trim(test: &TestStore) {
    for n in 0..20 {
        let events = (0..50).map(|_| system_event(n));
        test.store.commit(written([], events)).await.unwrap();
    }
    test.append([system_event(20)]).await;
    test.settle().await;
}

fn cursor_at(test: &TestStore, sequence: u64) -> Cursor {
    test.journal().cursor(Sequence(sequence))
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_now_sees_what_comes() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let mut watch = open(&test, watch(WatchStart::Now)).await.unwrap();
    test.append([system_event(2), system_event(3)]).await;
    let expected = [
        ("started", Some(1)),
        ("event 2", Some(2)),
        ("event 3", Some(3)),
    ];
    assert_told(&mut watch, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_cursor_or_a_time_replays() {
    let test = TestStore::new();
    test.append((1..=5).map(system_event)).await;
    for start in [
        WatchStart::Cursor(cursor_at(&test, 3)),
        WatchStart::Since(second(4)),
    ] {
        let mut watch = open(&test, watch(start)).await.unwrap();
        let expected = [
            ("started", Some(3)),
            ("event 4", Some(4)),
            ("event 5", Some(5)),
        ];
        assert_told(&mut watch, &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn state_comes_with_all_that_happened_since_it_was_read() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let start = WatchStart::State(StateFilter::default());
    let source = Containers::of(250);
    let journal = test.journal().clone();
    let mut watch = Follower::open(journal, source.clone(), watch(start))
        .await
        .unwrap();
    // It happens while state is sent; a container made meanwhile is in the state, the events or both.
    assert_told(&mut watch, &[("started", None)]).await;
    let late = Arc::new(container("late"));
    source.0.lock().push(Arc::clone(&late));
    let created = container_event(2, EventKind::ContainerCreated, &late);
    test.append([created]).await;

    let mut sent = HashSet::new();
    while let (name, None) = told(&mut watch).await {
        sent.insert(name);
        if sent.len() == 251 {
            break;
        }
    }
    assert_eq!(sent.len(), 251);
    assert_told(
        &mut watch,
        &[("synced 251 0", Some(1)), ("event 2", Some(2))],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn state_has_only_containers_that_match_whatever_the_events_filter_says() {
    let test = TestStore::new();
    let names = HashSet::from(["c1".to_owned()]);
    let filter = ContainerFilter {
        names,
        ..ContainerFilter::default()
    };
    let mut options = watch(WatchStart::State(StateFilter {
        containers: filter,
        execs: Execs::Omit,
    }));
    options.filter.types = Some(HashSet::new());
    let mut watch = open(&test, options).await.unwrap();
    let expected = [("started", None), ("c1", None), ("synced 1 0", Some(0))];
    assert_told(&mut watch, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn execs_follow_the_containers_that_were_sent_and_no_others() {
    let test = TestStore::new();
    let names = HashSet::from(["c0".to_owned(), "c2".to_owned()]);
    let state = StateFilter {
        containers: ContainerFilter {
            names,
            ..ContainerFilter::default()
        },
        execs: Execs::Include,
    };
    let mut watch = open(&test, watch(WatchStart::State(state))).await.unwrap();
    assert_told(&mut watch, &[("started", None)]).await;
    let mut containers = [told(&mut watch).await.0, told(&mut watch).await.0];
    containers.sort();
    assert_eq!(containers, ["c0", "c2"]);
    let expected = [("exec 0", None), ("exec 1", None), ("synced 2 2", Some(0))];
    assert_told(&mut watch, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn the_cursor_moves_past_events_that_do_not_match() {
    let test = TestStore::new();
    let mut options = watch(WatchStart::Now);
    options.filter.types = Some(HashSet::from([EventType::SystemDraining]));
    let mut watch = open(&test, options).await.unwrap();
    assert_told(&mut watch, &[("started", Some(0))]).await;
    test.append((1..=700).map(system_event)).await;
    let start = Instant::now();
    assert_told(&mut watch, &[("progress", Some(700))]).await;
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn progress_is_said_after_silence_only() {
    let test = TestStore::new();
    let mut watch = open(&test, watch(WatchStart::Now)).await.unwrap();
    assert_told(&mut watch, &[("started", Some(0))]).await;
    let start = Instant::now();
    assert_told(&mut watch, &[("progress", Some(0)), ("progress", Some(0))]).await;
    assert_eq!(start.elapsed().as_secs(), 60);

    time::advance(Duration::from_secs(20)).await;
    test.append([system_event(1)]).await;
    assert_told(&mut watch, &[("event 1", Some(1))]).await;
    let start = Instant::now();
    assert_told(&mut watch, &[("progress", Some(1))]).await;
    assert_eq!(start.elapsed().as_secs(), 30);

    // A watcher that was away gets what there is before it hears of silence.
    test.append([system_event(2)]).await;
    time::advance(Duration::from_secs(100)).await;
    assert_told(&mut watch, &[("event 2", Some(2))]).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_never_match_do_not_put_off_progress() {
    let test = TestStore::new();
    let mut options = watch(WatchStart::Now);
    options.filter.types = Some(HashSet::new());
    let mut watch = open(&test, options).await.unwrap();
    assert_told(&mut watch, &[("started", Some(0))]).await;
    let start = Instant::now();
    for n in 1..=9 {
        time::advance(Duration::from_secs(3)).await;
        test.append([system_event(n)]).await;
        let pending = time::timeout(Duration::from_millis(1), watch.next());
        assert!(pending.await.is_err());
    }
    assert_told(&mut watch, &[("progress", Some(9))]).await;
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_before_the_first_event_at_its_end() {
    let test = TestStore::new();
    test.append([1, 2, 5, 3].map(system_event)).await;
    let mut options = watch(WatchStart::Cursor(cursor_at(&test, 0)));
    options.until = Some(second(5));
    // The event that ends it need not match.
    options.filter.types = Some(HashSet::from([EventType::SystemStarted]));
    let mut watch = open(&test, options).await.unwrap();
    let expected = [
        ("started", Some(0)),
        ("event 1", Some(1)),
        ("event 2", Some(2)),
    ];
    assert_told(&mut watch, &expected).await;
    assert!(watch.next().await.unwrap().is_none());
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_the_clock_passes_its_end() {
    let test = TestStore::new();
    let mut options = watch(WatchStart::State(StateFilter::default()));
    options.until = Some(SystemTime::now() + Duration::from_secs(45));
    let mut watch = open(&test, options).await.unwrap();
    let start = Instant::now();
    let mut last = String::new();
    while let Some((_, item)) = watch.next().await.unwrap() {
        last = format!("{item:?}");
    }
    assert_eq!(last, "Progress");
    let took = start.elapsed().as_secs_f64();
    assert!((44.0..=45.1).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_end_is_past_sends_what_was_before_it_and_ends() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let mut options = watch(WatchStart::Cursor(cursor_at(&test, 0)));
    options.until = Some(second(2));
    let mut watch = open(&test, options).await.unwrap();
    let start = Instant::now();
    assert_told(&mut watch, &[("started", Some(0)), ("event 1", Some(1))]).await;
    assert!(watch.next().await.unwrap().is_none());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn times_beyond_all_clocks_are_never() {
    let test = TestStore::new();
    let mut options = watch(WatchStart::Now);
    options.progress_interval = Duration::MAX;
    options.until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
    let mut watch = open(&test, options).await.unwrap();
    assert_told(&mut watch, &[("started", Some(0))]).await;
    let pending = time::timeout(Duration::from_secs(1 << 20), watch.next());
    assert!(pending.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_server_or_from_the_future_is_refused() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let foreign = Cursor {
        server: ServerId::generate(),
        ..cursor_at(&test, 0)
    };
    for cursor in [foreign, cursor_at(&test, 2)] {
        let refused = open(&test, watch(WatchStart::Cursor(cursor))).await;
        assert!(matches!(refused, Err(Error::ForeignCursor)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_cursor_is_dealt_with_as_asked() {
    let test = trimmed().await;
    let oldest = test.journal().oldest().0;
    let gap = format!("gap Expired {}", oldest - 5);
    let start = || watch(WatchStart::Cursor(cursor_at(&test, 5)));

    let refused = open(&test, start()).await;
    assert!(matches!(
        refused,
        Err(Error::Journal(JournalError::Expired { after: Sequence(5), oldest: o, newest: Sequence(1001) }))
            if o.0 == oldest
    ));

    let mut options = start();
    options.gap_policy = GapPolicy::Continue;
    let mut watch = open(&test, options).await.unwrap();
    let next = format!("event {}", oldest + 1);
    let expected = [
        ("started", Some(5)),
        (gap.as_str(), Some(oldest)),
        (next.as_str(), Some(oldest + 1)),
    ];
    assert_told(&mut watch, &expected).await;

    let mut options = start();
    options.gap_policy = GapPolicy::Resync(StateFilter::default());
    let mut watch = open(&test, options).await.unwrap();
    assert_told(&mut watch, &[("started", Some(5)), (gap.as_str(), None)]).await;
    for _ in 0..3 {
        assert_eq!(told(&mut watch).await.1, None);
    }
    test.append([system_event(21)]).await;
    assert_told(
        &mut watch,
        &[("synced 3 0", Some(1001)), ("event 1002", Some(1002))],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_time_after_which_events_are_gone_is_a_gap_too() {
    let test = trimmed().await;
    let oldest = test.journal().oldest().0;
    let refused = open(&test, watch(WatchStart::Since(second(3)))).await;
    assert!(matches!(
        refused,
        Err(Error::Journal(JournalError::Expired { .. }))
    ));
    let mut options = watch(WatchStart::Since(second(3)));
    options.gap_policy = GapPolicy::Continue;
    let mut gapped = open(&test, options).await.unwrap();
    let expected = [("started", None), ("gap Expired 0", Some(oldest))];
    assert_told(&mut gapped, &expected).await;

    let mut whole = open(&test, watch(WatchStart::Since(second(20))))
        .await
        .unwrap();
    assert_told(
        &mut whole,
        &[("started", Some(1000)), ("event 1001", Some(1001))],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_an_earlier_epoch_is_dealt_with_as_asked() {
    let test = TestStore::new();
    test.append([system_event(1), system_event(2)]).await;
    let cursor = Cursor {
        epoch: Epoch::generate(),
        // Also where this epoch has no such event.
        ..cursor_at(&test, 70)
    };
    let start = || watch(WatchStart::Cursor(cursor));
    let refused = open(&test, start()).await.map(drop);
    let Err(Error::EpochChanged {
        epoch,
        oldest,
        newest,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(epoch, cursor.epoch.to_string());
    assert_eq!(Cursor::parse(&oldest), Ok(cursor_at(&test, 0)));
    assert_eq!(Cursor::parse(&newest), Ok(cursor_at(&test, 2)));

    let mut options = start();
    options.gap_policy = GapPolicy::Continue;
    let mut watch = open(&test, options).await.unwrap();
    let (resume, _) = watch.next().await.unwrap().unwrap();
    assert_eq!(
        resume,
        Some(cursor),
        "the gap is told again until it was heard"
    );
    let expected = [("gap EpochChanged 0", Some(0)), ("event 1", Some(1))];
    assert_told(&mut watch, &expected).await;

    let mut options = start();
    options.gap_policy = GapPolicy::Resync(StateFilter::default());
    let mut watch = open(&test, options).await.unwrap();
    watch.next().await.unwrap();
    assert_told(&mut watch, &[("gap EpochChanged 0", None)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_falls_behind_is_dealt_with_as_asked() {
    for policy in [
        GapPolicy::Fail,
        GapPolicy::Continue,
        GapPolicy::Resync(StateFilter::default()),
    ] {
        let test = TestStore::with(Options {
            journal_bytes: 20_000,
            ..store_options()
        });
        let mut options = watch(WatchStart::Now);
        options.gap_policy = policy.clone();
        let mut watch = open(&test, options).await.unwrap();
        test.append([system_event(0)]).await;
        assert_told(&mut watch, &[("started", Some(0)), ("event 1", Some(1))]).await;
        trim(&test).await;
        let oldest = test.journal().oldest().0;
        let gap = format!("gap Expired {}", oldest - 1);
        match policy {
            GapPolicy::Fail => {
                let expired = watch.next().await.map(drop);
                assert!(matches!(
                    expired,
                    Err(Error::Journal(JournalError::Expired { .. }))
                ));
                assert!(watch.next().await.unwrap().is_none(), "it is over");
            }
            GapPolicy::Continue => {
                let next = format!("event {}", oldest + 1);
                let expected = [(gap.as_str(), Some(oldest)), (&next, Some(oldest + 1))];
                assert_told(&mut watch, &expected).await;
            }
            GapPolicy::Resync(_) => {
                assert_told(&mut watch, &[(gap.as_str(), None)]).await;
                for _ in 0..3 {
                    assert_eq!(told(&mut watch).await.1, None);
                }
                assert_told(&mut watch, &[("synced 3 0", Some(1002))]).await;
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let test = TestStore::new();
    test.append((1..=500).map(system_event)).await;
    // Reads go to disk, so that there is something to interrupt.
    let test = test.reopen();
    let mut watch = open(&test, watch(WatchStart::Cursor(cursor_at(&test, 0))))
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut dropped = 0;
    while seen.len() < 500 {
        let next = time::timeout(Duration::from_micros(200), watch.next()).await;
        match next {
            Err(_) => dropped += 1,
            Ok(item) => {
                if let Some((_, WatchItem::Event(event))) = item.unwrap() {
                    seen.push(event.sequence.0);
                }
            }
        }
        // Lets an interrupted read end, so that it is begun anew.
        if dropped > 20 && seen.len() < 500 {
            let item = watch.next().await.unwrap().unwrap().1;
            if let WatchItem::Event(event) = item {
                seen.push(event.sequence.0);
            }
        }
    }
    assert_eq!(seen, (1..=500).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn dropped_watches_leave_nothing() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let before = test.journal().users();
    for n in 0..10_000 {
        let start = if n % 2 == 0 {
            WatchStart::Now
        } else {
            WatchStart::State(StateFilter::default())
        };
        let mut watch = open(&test, watch(start)).await.unwrap();
        let pending = async { while watch.next().await.unwrap().is_some() {} };
        assert!(futures_util::future::FutureExt::now_or_never(pending).is_none());
    }
    assert_eq!(test.journal().users(), before);
}
