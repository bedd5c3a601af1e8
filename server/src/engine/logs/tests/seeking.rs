//! Beginning at a time or near the end, and ending at a time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cursor::Position;
use super::*;

/// Two runs of lines and halves of lines on both streams, over many segments.
fn busy() -> Log {
    let mut log = Log::started(SMALL);
    for run in 0..2 {
        for n in 0..60 {
            log.out(format!("{run} out {n}\nand "));
            if n % 3 == 0 {
                log.err(format!("{run} err {n}\n"));
            }
        }
        log.exit(run);
        if run == 0 {
            log.start();
        }
    }
    log
}

fn is_entry(word: &&String) -> bool {
    word.contains(" out ") || word.contains(" err ")
}

#[tokio::test]
async fn a_tail_has_the_last_entries_of_all_runs_and_streams() {
    let log = busy();
    let whole = log.all().await;
    let entries: Vec<&String> = whole.iter().filter(is_entry).collect();
    for count in (1..entries.len() + 3).step_by(3) {
        let told = log.read(tail(count as u64)).await;
        let found: Vec<&String> = told.iter().filter(is_entry).collect();
        let expected = &entries[entries.len().saturating_sub(count)..];
        // Order between the streams is that of the whole: what is older is left out.
        assert_eq!(found, expected, "the last {count}");
    }
    assert_eq!(log.read(tail(u64::MAX)).await, whole);
    assert_eq!(log.read(tail(0)).await, [] as [&str; 0]);
    assert_eq!(log.read(tail(1)).await.last().unwrap(), "2 exited 1");
}

#[tokio::test]
async fn a_tail_of_a_run_that_goes_on_counts_finished_lines() {
    let mut log = Log::started(SMALL);
    log.out("a\nb\nc");
    assert_eq!(log.read(tail(1)).await, [r#"1 out b"b\n""#]);
    let mut query = tail(0);
    query.end = LogEnd::Exit;
    let mut stream = log.open(query).await;
    log.out("d\n");
    log.exit(0);
    let message = next(&mut stream).await.unwrap();
    assert_eq!(words(&message), [r#"1 out b"cd\n""#]);
    assert_eq!(words(&next(&mut stream).await.unwrap()), ["1 exited 0"]);
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_silent_stream_does_not_make_a_tail_read_everything() {
    let mut log = Log::started(SMALL);
    for n in 0..500 {
        log.out(format!("line {n}\n"));
    }
    let position = log.scan(Position::default()).before_end(&log.view(), 2);
    let position = position.unwrap();
    let written = log.writer.as_ref().unwrap().positions();
    assert_eq!(position.offsets.stdout, written.stdout - 18);
    assert_eq!(position.offsets.stderr, 0);
}

#[tokio::test]
async fn since_and_until_cut_at_the_exact_entry() {
    let mut log = Log::started(SMALL);
    let mut times = Vec::new();
    for n in 0..80 {
        log.out(format!("line {n}\n"));
        times.push(log.time);
    }
    log.exit(0);
    let expected = |from: usize, to: usize| -> Vec<String> {
        (from..to)
            .map(|n| format!("1 out b\"line {n}\\n\""))
            .collect()
    };
    for n in [1, 7, 40, 79] {
        for (time, first) in [(times[n], n), (times[n] - 1, n), (times[n] + 1, n + 1)] {
            let mut told = log.read(since(time)).await;
            assert_eq!(told.pop().unwrap(), "1 exited 0");
            assert_eq!(told, expected(first, 80), "since {time}");
            let until = LogQuery {
                until: Some(time_of(time)),
                ..LogQuery::default()
            };
            let told = log.read(until).await;
            assert_eq!(told[0], "1 started");
            assert_eq!(told[1..], expected(0, first), "until {time}");
        }
    }
    assert_eq!(log.read(since(log.time + 1)).await, [] as [&str; 0]);
    assert_eq!(log.read(since(0)).await, log.all().await);
}

#[tokio::test]
async fn since_leaves_out_a_line_that_began_before() {
    let mut log = Log::started(LARGE);
    log.out("be");
    log.out("gun\nnext\n");
    let time = log.time;
    log.exit(0);
    let expected = [r#"1 out b"next\n""#, "1 exited 0"];
    assert_eq!(log.read(since(time)).await, expected);
}

#[tokio::test]
async fn a_tail_counts_only_what_is_after_since() {
    let mut log = Log::started(SMALL);
    for n in 0..20 {
        log.out(format!("line {n}\n"));
    }
    let time = log.time + 1;
    log.out("a\nb\n");
    let query = |count| LogQuery {
        tail: Some(count),
        ..since(time)
    };
    assert_eq!(log.read(query(1)).await, [r#"1 out b"b\n""#]);
    let both = [r#"1 out b"a\n""#, r#"1 out b"b\n""#];
    assert_eq!(log.read(query(10)).await, both);
}

#[tokio::test]
async fn since_before_what_is_kept_begins_with_a_gap() {
    let mut log = Log::started(TINY);
    log.out("first\n");
    let time = log.time;
    for n in 0..200 {
        log.out(format!("line {n}\n"));
    }
    let told = log.read(since(time)).await;
    assert!(told[0].starts_with("1 gap "), "{}", told[0]);
    assert_eq!(told, log.all().await[1..]);
}

/// Pages by time touch each other: each entry is on exactly one.
#[tokio::test]
async fn until_ends_where_since_begins() {
    let log = busy();
    let whole: Vec<String> = log.all().await;
    for time in (1_005..log.time).step_by(97) {
        let mut pages = log
            .read(LogQuery {
                until: Some(time_of(time)),
                ..LogQuery::default()
            })
            .await;
        pages.extend(log.read(since(time)).await);
        assert_eq!(pages, whole, "at {time}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_tail_is_the_end_of_the_whole(
        writes in vec((any::<bool>(), "[ab\n]{1,60}"), 1..60),
        ended: bool,
        count in 1..40_usize,
    ) {
        let mut log = Log::started(SMALL);
        for (out, text) in writes {
            log.write(if out { Output::Stdout } else { Output::Stderr }, text);
        }
        if ended {
            log.exit(0);
        }
        let entries = |scan: &mut Scan| -> Vec<String> {
            let told: Vec<String> = log.told(scan).iter().flat_map(words).collect();
            told.into_iter().filter(|word| is_entry(&word)).collect()
        };
        let whole = entries(&mut log.scan(Position::default()));
        let mut scan = log.scan(Position::default());
        scan.position = scan.before_end(&log.view(), count as u64).unwrap();
        let expected = &whole[whole.len().saturating_sub(count)..];
        prop_assert_eq!(&entries(&mut scan)[..], expected);
    }
}
