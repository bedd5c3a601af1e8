//! What is there, from the beginning.

use super::*;
use crate::model::limits::{LOG_ENTRY_OVERHEAD_BYTES, MAX_LOG_BATCH_BYTES, MAX_LOG_ENTRY_BYTES};

#[tokio::test]
async fn lines_go_over_reads_and_segments_and_the_streams_are_told_apart() {
    let mut log = Log::started(SMALL);
    log.out("one\r\ntw");
    log.err("bad\0\n");
    let long = format!("{}\n", "x".repeat(1_000));
    log.out(format!("o\n{long}end"));
    log.exit(3);
    let expected = [
        "1 started".to_owned(),
        r#"1 out b"one\r\n""#.to_owned(),
        r#"1 err b"bad\0\n""#.to_owned(),
        r#"1 out b"two\n""#.to_owned(),
        format!("1 out b{long:?}"),
        r#"1 out b"end""#.to_owned(),
        "1 exited 3".to_owned(),
    ];
    assert_eq!(log.all().await, expected);
}

#[tokio::test]
async fn an_entry_has_the_time_of_its_first_byte() {
    let mut log = Log::started(LARGE);
    log.out("be");
    let time = log.time;
    log.err("e\n");
    log.out("gin\nx\n");
    let told = log.told(&mut log.scan(Default::default()));
    let times: Vec<u64> = told
        .iter()
        .filter_map(|message| match &message.item {
            LogItem::Entries(entries) => Some(entries[0].time),
            _ => None,
        })
        .collect();
    assert_eq!(times, [time + 10, time, time + 20]);
}

#[tokio::test]
async fn a_line_that_is_not_finished_is_held_until_the_run_ends() {
    let mut log = Log::started(LARGE);
    log.out("$ ");
    assert_eq!(log.all().await, ["1 started"]);
    log.exit(0);
    let expected = ["1 started", r#"1 out b"$ ""#, "1 exited 0"];
    assert_eq!(log.all().await, expected);
}

#[tokio::test]
async fn a_recording_whose_end_is_missing_ends_with_a_gap_that_is_told_once() {
    let mut log = Log::started(LARGE);
    log.out("cut o");
    log.process_exits(0);
    log.lose_the_end();
    let expected = ["1 started", r#"1 out b"cut o""#, "1 gap 0", "1 exited 0"];
    assert_eq!(log.all().await, expected);
    let mut stream = log.open(LogQuery::default()).await;
    let mut told = 0;
    while let Some(message) = next(&mut stream).await {
        told += 1;
        assert_eq!(log.read(after(message.cursor)).await, expected[told..]);
    }
}

#[tokio::test]
async fn a_long_line_is_split_and_its_pieces_say_that_it_goes_on() {
    let mut log = Log::started(LARGE);
    let line = vec![b'y'; 2 * MAX_LOG_ENTRY_BYTES];
    log.out(&line);
    log.out("z\n");
    let told = log.told(&mut log.scan(Default::default()));
    let entries: Vec<(usize, bool)> = told
        .iter()
        .filter_map(|message| match &message.item {
            LogItem::Entries(entries) => Some((entries[0].data.len(), entries[0].partial)),
            _ => None,
        })
        .collect();
    let full = MAX_LOG_ENTRY_BYTES;
    assert_eq!(entries, [(full, true), (full, true), (2, false)]);
}

#[tokio::test]
async fn one_stream_alone_can_be_read() {
    let mut log = Log::started(SMALL);
    log.out("a\n");
    log.err("b\n");
    log.gap(Some(Output::Stdout), 7);
    log.err("c\n");
    log.exit(0);
    let only = |stream| LogQuery {
        only: Some(stream),
        ..LogQuery::default()
    };
    let expected = [
        "1 started",
        r#"1 err b"b\n""#,
        r#"1 err b"c\n""#,
        "1 exited 0",
    ];
    assert_eq!(log.read(only(OutputStream::Stderr)).await, expected);
    let expected = ["1 started", r#"1 out b"a\n""#, "1 gap 7", "1 exited 0"];
    assert_eq!(log.read(only(OutputStream::Stdout)).await, expected);
}

#[tokio::test]
async fn a_message_holds_so_many_bytes_and_no_more() {
    let mut log = Log::started(LARGE);
    let lines = 3 * MAX_LOG_BATCH_BYTES / (100 + LOG_ENTRY_OVERHEAD_BYTES);
    for _ in 0..lines / 100 {
        log.out(format!("{}\n", "l".repeat(99)).repeat(100));
    }
    let mut stream = log.open(LogQuery::default()).await;
    let mut sizes = Vec::new();
    while let Some(message) = next(&mut stream).await {
        if let LogItem::Entries(entries) = message.item {
            sizes.push(entries.len() * (100 + LOG_ENTRY_OVERHEAD_BYTES));
        }
    }
    let total = lines / 100 * 100 * (100 + LOG_ENTRY_OVERHEAD_BYTES);
    assert_eq!(sizes.iter().sum::<usize>(), total);
    assert!(
        sizes.iter().all(|size| *size <= MAX_LOG_BATCH_BYTES),
        "{sizes:?}"
    );
    assert_eq!(
        sizes.len(),
        total.div_ceil(MAX_LOG_BATCH_BYTES),
        "{sizes:?}"
    );
}

#[tokio::test]
async fn runs_come_in_order_each_with_its_marks() {
    let mut log = Log::new(LARGE);
    assert_eq!(log.all().await, [] as [&str; 0]);
    for run in 1..=3 {
        log.start();
        log.out(format!("{run}\n"));
        log.exit(run);
    }
    // Nobody remembers how the second one ended.
    log.change(|container| {
        Arc::make_mut(&mut container.runs).remove(1);
    });
    let expected = [
        "1 started",
        r#"1 out b"1\n""#,
        "1 exited 1",
        "2 started",
        r#"2 out b"2\n""#,
        "3 started",
        r#"3 out b"3\n""#,
        "3 exited 3",
    ];
    assert_eq!(log.all().await, expected);
}

#[tokio::test]
async fn a_run_that_is_being_started_has_not_begun() {
    let mut log = Log::started(LARGE);
    log.exit(0);
    log.start();
    log.change(|container| container.state = State::Starting);
    assert_eq!(log.all().await, ["1 started", "1 exited 0"]);
    log.change(|container| container.state = State::Running);
    assert_eq!(log.all().await, ["1 started", "1 exited 0", "2 started"]);
}

#[tokio::test]
async fn what_was_rotated_away_is_counted() {
    let mut log = Log::started(TINY);
    let mut written = 0;
    for line in 0..200 {
        log.out(format!("{line:09}\n"));
        written += 10;
    }
    let told = log.all().await;
    let missed: u64 = told[1].strip_prefix("1 gap ").unwrap().parse().unwrap();
    let kept = (told.len() - 2) as u64 * 10;
    assert_eq!(missed + kept, written);
    // A segment can end in the midst of a line: then the rest of that line is kept.
    assert!(missed > 1_000 && kept > 0, "{missed} {kept}");
}

#[tokio::test]
async fn a_slow_reader_is_told_exactly_what_it_missed() {
    let mut log = Log::started(TINY);
    log.out("0\n1\nunfin");
    let mut scan = log.scan(Default::default());
    let told = log.told(&mut scan);
    assert_eq!(told.len(), 3);
    for _ in 0..100 {
        log.out([b'x'; 50]);
    }
    log.out("\nlast\n");
    let told = log.told(&mut scan);
    let words: Vec<String> = told.iter().flat_map(words).collect();
    // What was open is read to its end.
    assert!(words[0].starts_with(r#"1 out b"unfin"#), "{}", words[0]);
    let missed: u64 = words[1].strip_prefix("1 gap ").unwrap().parse().unwrap();
    assert_eq!(words.last().unwrap(), r#"1 out b"last\n""#);
    let kept: u64 = told
        .iter()
        .map(|message| match &message.item {
            LogItem::Entries(entries) => entries[0].data.len() as u64,
            _ => 0,
        })
        .sum();
    assert_eq!(missed + kept, 5 + 100 * 50 + 6);
}

#[tokio::test]
async fn runs_that_are_gone_are_one_gap() {
    let mut log = Log::new(TINY);
    for run in 1..=4 {
        log.start();
        log.out("begin\n");
        log.exit(run);
    }
    let remove = |runs: std::ops::RangeInclusive<u64>| {
        for file in std::fs::read_dir(log.directory()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let run: u64 = name.split('.').next().unwrap().parse().unwrap();
            if runs.contains(&run) {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    remove(1..=1);
    assert_eq!(log.all().await[..2], ["1 gap 0", "2 started"]);
    remove(2..=2);
    assert_eq!(log.all().await[..2], ["0 gap 0", "3 started"]);
    remove(3..=4);
    let expected = ["0 gap 0", "4 started", "4 gap 0", "4 exited 4"];
    assert_eq!(log.all().await, expected);
}

#[tokio::test]
async fn a_loss_of_unknown_size_cuts_lines() {
    let mut log = Log::started(LARGE);
    log.out("half");
    log.gap(None, 0);
    log.out("other half\n");
    log.exit(0);
    let expected = [
        "1 started",
        r#"1 out b"half""#,
        "1 gap 0",
        r#"1 out b"other half\n""#,
        "1 exited 0",
    ];
    assert_eq!(log.all().await, expected);
}

#[tokio::test]
async fn a_log_that_is_not_kept_is_not_found() {
    let log = Log::started(LARGE);
    log.change(|container| Arc::make_mut(&mut container.spec).log.disabled = true);
    let refused = LogStream::new(log.source(), LogQuery::default());
    assert!(matches!(refused, Err(Error::LogNotFound { .. })));
}

#[tokio::test]
async fn what_is_written_meanwhile_is_not_for_those_who_do_not_follow() {
    let mut log = Log::started(LARGE);
    log.out("before\n");
    let mut stream = log.open(LogQuery::default()).await;
    log.out("after\n");
    let mut told = Vec::new();
    while let Some(message) = next(&mut stream).await {
        told.extend(words(&message));
    }
    assert_eq!(told, ["1 started", r#"1 out b"before\n""#]);
}
