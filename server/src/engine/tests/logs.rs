//! The logs of many containers on one stream, and of one that is deleted.

use std::collections::HashMap;

use super::*;
use crate::engine::logs::{FollowQuery, LogItem, LogMessage, LogQuery, LogStart, LogsStream};
use crate::model::ContainerId;
use crate::stdio::segment::{End, Limits, Output, Writer};

const LIMITS: Limits = Limits {
    segment_bytes: 1 << 20,
    total_bytes: 1 << 22,
};

/// What the keeper would record of the container's current run.
fn writer(up: &Up, id: ContainerId) -> Writer {
    let run = up.engine.get(&id.to_string()).unwrap().run.0;
    Writer::open(&up.engine.core.log_dir(id), run, LIMITS, 1).unwrap()
}

fn write(up: &Up, id: ContainerId, lines: &str) {
    let time = crate::stdio::segment::now();
    let written = writer(up, id).append(time, Output::Stdout, lines.as_bytes());
    written.unwrap();
}

fn end(up: &Up, id: ContainerId) {
    let time = crate::stdio::segment::now();
    let ended = writer(up, id).end(time, End { truncated: false });
    ended.unwrap();
}

fn text(message: &LogMessage) -> String {
    match &message.item {
        LogItem::Entries(entries) => entries
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
            .collect(),
        LogItem::Gap { missed } => format!("gap {missed}"),
        LogItem::RunStarted { .. } => "started".to_owned(),
        LogItem::RunExited(exit) => format!("exited {}", exit.code),
        LogItem::Idle => "idle".to_owned(),
    }
}

/// The next so many messages that are about containers, by container.
async fn take(logs: &mut LogsStream, count: usize) -> HashMap<ContainerId, Vec<String>> {
    let mut taken: HashMap<_, Vec<_>> = HashMap::new();
    for _ in 0..count {
        let message = logs.next().await.unwrap().expect("it is not silent");
        let told = taken.entry(message.cursor.container()).or_default();
        told.push(text(&message));
    }
    taken
}

/// Nothing comes until it is time to say so.
async fn assert_silent(up: &Up, logs: &mut LogsStream) {
    let silence = limits::LOG_IDLE_INTERVAL + Duration::from_secs(1);
    let (next, ()) = tokio::join!(logs.next(), up.pass(silence));
    assert_eq!(next.unwrap(), None);
}

fn labelled(key: &str) -> FollowQuery {
    FollowQuery {
        filter: ContainerFilter {
            label_keys: vec![key.to_owned()],
            ..ContainerFilter::default()
        },
        ..FollowQuery::default()
    }
}

fn label(set: bool) -> UpdateContainer {
    let (mut update, key) = (UpdateContainer::default(), "watched".to_owned());
    if set {
        update.set_labels = TextMap::from([(key, "yes".to_owned())]);
    } else {
        update.remove_labels = vec![key];
    }
    update
}

#[test]
fn all_containers_are_followed_also_those_that_come_later() {
    World::new().run(async |up| {
        let first = up.create_started("first").await;
        write(up, first, "one\n");
        let mut silent = and_start(request("silent"));
        silent.spec.log.disabled = true;
        let silent = up.make(silent).await.id;
        write(up, silent, "nobody reads this\n");

        let query = FollowQuery::default();
        let mut logs = up.engine.follow_logs(query).await.unwrap();
        assert_eq!(take(&mut logs, 2).await[&first], ["started", "one\n"]);
        assert_silent(up, &mut logs).await;

        let second = up.create_started("second").await;
        write(up, second, "two\nand ");
        assert_eq!(take(&mut logs, 2).await[&second], ["started", "two\n"]);
        write(up, second, "more");
        end(up, second);
        up.exit("second", 4).await;
        assert_eq!(take(&mut logs, 2).await[&second], ["and more", "exited 4"]);
        assert_silent(up, &mut logs).await;
    });
}

#[test]
fn a_container_that_stops_matching_is_read_to_its_end_and_goes_on_when_it_matches_again() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let mut logs = up.engine.follow_logs(labelled("watched")).await.unwrap();
        write(up, id, "one\n");
        assert_silent(up, &mut logs).await;
        up.engine
            .update(cause("u1"), "a", label(true))
            .await
            .unwrap();
        assert_eq!(take(&mut logs, 2).await[&id], ["started", "one\n"]);
        write(up, id, "two\n");
        up.engine
            .update(cause("u2"), "a", label(false))
            .await
            .unwrap();
        assert_eq!(take(&mut logs, 1).await[&id], ["two\n"]);
        assert_silent(up, &mut logs).await;
        write(up, id, "three\n");
        assert_silent(up, &mut logs).await;
        up.engine
            .update(cause("u3"), "a", label(true))
            .await
            .unwrap();
        assert_eq!(take(&mut logs, 1).await[&id], ["three\n"]);
    });
}

#[test]
fn positions_go_on_and_the_others_begin_where_they_are_told_to() {
    World::new().run(async |up| {
        let (known, other) = (
            up.create_started("known").await,
            up.create_started("other").await,
        );
        write(up, known, "one\n");
        write(up, other, "1\n2\n3\n");
        let everything = FollowQuery::default();
        let mut logs = up.engine.follow_logs(everything).await.unwrap();
        let mut positions = HashMap::new();
        for _ in 0..4 {
            let cursor = logs.next().await.unwrap().unwrap().cursor;
            positions.insert(cursor.container(), cursor);
        }
        drop(logs);
        positions.retain(|id, _| *id == known);
        write(up, known, "two\nthree\n");
        let query = FollowQuery {
            positions,
            tail: Some(1),
            ..FollowQuery::default()
        };
        let mut logs = up.engine.follow_logs(query).await.unwrap();
        let taken = take(&mut logs, 2).await;
        assert_eq!(taken[&known], ["two\nthree\n"]);
        assert_eq!(taken[&other], ["3\n"]);
        let later = up.create_started("later").await;
        write(up, later, "a\nb\n");
        assert_eq!(take(&mut logs, 2).await[&later], ["started", "a\nb\n"]);
    });
}

#[test]
fn a_container_that_came_and_went_unseen_is_told_once() {
    World::new().run(async |up| {
        let query = FollowQuery::default();
        let mut logs = up.engine.follow_logs(query).await.unwrap();
        let id = up.create_started("brief").await;
        write(up, id, "brief\n");
        end(up, id);
        up.exit("brief", 0).await;
        up.delete("brief", "delete", plain()).await.unwrap();
        let taken = take(&mut logs, 3).await;
        assert_eq!(taken[&id], ["started", "brief\n", "exited 0"]);
        assert_silent(up, &mut logs).await;
    });
}

#[test]
fn writers_take_turns() {
    World::new().run(async |up| {
        let lines = format!("{}\n", "x".repeat(999)).repeat(1_000);
        for name in ["a", "b", "c"] {
            let id = up.create_started(name).await;
            write(up, id, &lines);
        }
        let query = FollowQuery::default();
        let mut logs = up.engine.follow_logs(query).await.unwrap();
        let mut order = Vec::new();
        for _ in 0..12 {
            let message = logs.next().await.unwrap().unwrap();
            order.push(message.cursor.container());
        }
        for round in order.chunks(3).skip(1) {
            assert_eq!(round, &order[..3]);
        }
    });
}

#[test]
fn the_log_of_a_deleted_container_can_be_read_by_id_for_a_while() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        write(up, id, "last words\n");
        end(up, id);
        up.exit("a", 3).await;
        up.delete("a", "delete", plain()).await.unwrap();
        let key = id.to_string();
        let mut log = up.engine.logs(&key, LogQuery::default()).await.unwrap();
        let mut told = Vec::new();
        let mut last = None;
        while let Some(message) = log.next().await.unwrap() {
            told.push(text(&message));
            last = Some(message.cursor);
        }
        assert_eq!(told, ["started", "last words\n", "exited 3"]);
        let rest = LogQuery {
            start: LogStart::Cursor(last.unwrap()),
            ..LogQuery::default()
        };
        let mut log = up.engine.logs(&key, rest).await.unwrap();
        assert_eq!(log.next().await.unwrap(), None);
        let missing = up.engine.logs("nobody", LogQuery::default()).await;
        assert_refused!(missing, Error::ContainerNotFound { .. });
    });
}

#[test]
fn who_stops_waiting_for_many_logs_loses_nothing() {
    use futures_util::FutureExt as _;
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let query = FollowQuery::default();
        let mut logs = up.engine.follow_logs(query).await.unwrap();
        let (mut told, mut written) = (String::new(), String::new());
        for n in 0..100 {
            let line = format!("{n}\n");
            write(up, id, &line);
            written.push_str(&line);
            if let Some(Ok(Some(message))) = logs.next().now_or_never() {
                told.push_str(&text(&message));
            }
            tokio::task::yield_now().await;
        }
        end(up, id);
        up.exit("a", 0).await;
        while !told.ends_with("exited 0") {
            let message = logs.next().await.unwrap().expect("it is not silent");
            told.push_str(&text(&message));
        }
        assert_eq!(told, format!("started{written}exited 0"));
    });
}
