//! Following one container as it writes, restarts and goes.

use futures_util::FutureExt as _;

use super::*;
use crate::model::limits::LOG_IDLE_INTERVAL;

async fn told(log: &mut LogStream) -> Vec<String> {
    words(&next(log).await.expect("it goes on"))
}

#[tokio::test(start_paused = true)]
async fn a_follower_goes_on_over_runs_until_the_container_is_deleted() {
    let mut log = Log::new(LARGE);
    let mut stream = log.open(follow()).await;
    log.start();
    assert_eq!(told(&mut stream).await, ["1 started"]);
    log.out("a\nb");
    assert_eq!(told(&mut stream).await, [r#"1 out b"a\n""#]);
    log.out("c\n");
    assert_eq!(told(&mut stream).await, [r#"1 out b"bc\n""#]);
    log.out("last");
    log.exit(1);
    assert_eq!(told(&mut stream).await, [r#"1 out b"last""#]);
    assert_eq!(told(&mut stream).await, ["1 exited 1"]);
    log.start();
    assert_eq!(told(&mut stream).await, ["2 started"]);
    log.exit(2);
    log.delete();
    assert_eq!(told(&mut stream).await, ["2 exited 2"]);
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_exit_is_told_after_all_output() {
    let mut log = Log::started(LARGE);
    let mut stream = log.open(follow()).await;
    told(&mut stream).await;
    log.process_exits(7);
    let waits = tokio::time::timeout(Duration::from_secs(5), stream.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    let mut late = log.open(LogQuery::default()).await;
    assert_eq!(told(&mut late).await, ["1 started"]);
    let waits = tokio::time::timeout(Duration::from_secs(5), late.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    log.out("end");
    log.end_recording();
    for stream in [&mut stream, &mut late] {
        assert_eq!(told(stream).await, [r#"1 out b"end""#]);
        assert_eq!(told(stream).await, ["1 exited 7"]);
    }
    assert_eq!(next(&mut late).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_exit_is_told_once_it_is_known() {
    let mut log = Log::started(LARGE);
    let mut stream = log.open(follow()).await;
    told(&mut stream).await;
    log.out("end");
    log.end_recording();
    assert_eq!(told(&mut stream).await, [r#"1 out b"end""#]);
    let waits = tokio::time::timeout(Duration::from_secs(5), stream.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    log.change(|container| {
        let exit = exit(container.run, 7, 5_000);
        Arc::make_mut(&mut container.runs).push_back(Arc::new(exit));
        container.state = State::Exited;
    });
    assert_eq!(told(&mut stream).await, ["1 exited 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_that_it_is_alive_after_a_silence() {
    let mut log = Log::started(LARGE);
    log.out("unfinished");
    let mut stream = log.open(follow()).await;
    told(&mut stream).await;
    for _ in 0..2 {
        let before = tokio::time::Instant::now();
        let idle = next(&mut stream).await.unwrap();
        assert_eq!(words(&idle), ["1 idle"]);
        // Timers count in milliseconds.
        let silence = before.elapsed();
        assert!(silence >= LOG_IDLE_INTERVAL && silence < LOG_IDLE_INTERVAL * 2);
        assert_eq!(idle.cursor.position.offsets, Default::default());
    }
    log.out(" no more\n");
    assert_eq!(
        told(&mut stream).await,
        [r#"1 out b"unfinished no more\n""#]
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_can_end_with_the_current_run_or_at_a_time() {
    let mut log = Log::started(LARGE);
    let query = LogQuery {
        end: LogEnd::Exit,
        ..follow()
    };
    let mut stream = log.open(query).await;
    told(&mut stream).await;
    log.exit(0);
    log.start();
    assert_eq!(told(&mut stream).await, ["1 exited 0"]);
    assert_eq!(next(&mut stream).await, None);

    let query = LogQuery {
        until: Some(SystemTime::now() + Duration::from_secs(100)),
        ..follow()
    };
    let mut stream = log.open(query).await;
    let mut words = Vec::new();
    while let Some(message) = next(&mut stream).await {
        words.extend(super::words(&message));
    }
    let idle = "2 idle";
    let expected = ["1 started", "1 exited 0", "2 started", idle, idle, idle];
    assert_eq!(words, expected);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_in_the_midst_of_a_read_loses_nothing() {
    let mut log = Log::started(SMALL);
    let mut stream = log.open(follow()).await;
    let mut found = Vec::new();
    for n in 0..200 {
        log.out(format!("line {n}\n"));
        // Polled once and dropped: the read that it began goes on.
        if let Some(message) = stream.next().now_or_never() {
            found.extend(words(&message.unwrap().unwrap()));
        }
        tokio::task::yield_now().await;
    }
    log.exit(0);
    log.delete();
    while let Some(message) = next(&mut stream).await {
        found.extend(words(&message));
    }
    found.retain(|word| !word.ends_with("idle"));
    assert_eq!(found, log.all().await);
}

#[tokio::test]
async fn the_end_of_the_server_is_no_end_of_the_log() {
    let log = Log::started(LARGE);
    let mut stream = log.open(follow()).await;
    told(&mut stream).await;
    let Log { snapshot, .. } = log;
    drop(snapshot);
    assert!(matches!(stream.next().await, Err(Error::Draining)));
}

/// The writer and readers at different speeds, on threads of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_followers_at_different_speeds_are_told_the_same() {
    const LINES: usize = 4_000;
    let mut log = Log::new(Limits {
        segment_bytes: 20_000,
        ..LARGE
    });
    let mut readers = tokio::task::JoinSet::new();
    for speed in 0..16_usize {
        let mut stream = log.open(follow()).await;
        readers.spawn(async move {
            let mut found = Vec::new();
            while let Some(message) = stream.next().await.unwrap() {
                found.extend(words(&message));
                for _ in 0..speed * 10 {
                    tokio::task::yield_now().await;
                }
            }
            found
        });
    }
    let write = move || {
        for run in 0..2 {
            log.start();
            for n in 0..LINES {
                log.out(format!("{n} of run {run}\n"));
            }
            log.exit(0);
        }
        log.delete();
        log
    };
    let log = tokio::task::spawn_blocking(write).await.unwrap();
    let whole = log.all().await;
    assert_eq!(whole.len(), 2 * (LINES + 2));
    while let Some(found) = readers.join_next().await {
        assert!(found.unwrap() == whole, "a reader was told something else");
    }
}
