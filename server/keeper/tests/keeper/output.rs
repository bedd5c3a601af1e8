//! What processes write is recorded, byte for byte.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_keeper::protocol::{Answer, Call, Descriptors, Refusal};
use wharf_keeper::segment::{Limits, Next, Output, Reader};

use crate::harness::{BOTH, Keeper, PATIENCE, STDOUT, from_offset, pattern, until};

#[test]
fn every_byte_of_both_streams_is_recorded_at_its_offset() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (stdout, stderr) = (keeper.fifo("out"), keeper.fifo("err"));
    daemon.opens(keeper.open("a", BOTH), &[stdout.fd(), stderr.fd()]);
    let mut child = Command::new("sh")
        .args(["-c", "seq 1 200000; seq 1 50000 >&2"])
        .stdout(stdout.writer())
        .stderr(stderr.writer())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let (positions, truncated) = daemon.finish("a", PATIENCE);
    let (out, err) = (
        keeper.recorded("a", Output::Stdout),
        keeper.recorded("a", Output::Stderr),
    );
    let lines = |last: u32| {
        (1..=last)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    assert!(!truncated);
    assert!(
        out.bytes == lines(200_000).as_bytes(),
        "standard output is not what was written"
    );
    assert!(
        err.bytes == lines(50_000).as_bytes(),
        "standard error is not what was written"
    );
    assert_eq!(out.truncated, Some(false));
    assert_eq!(positions.stdout, out.bytes.len() as u64);
    assert_eq!(positions.stderr, err.bytes.len() as u64);
}

#[test]
fn a_reader_takes_up_where_it_left_off() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    fifo.writer().write_all(&pattern(0, 10_000)).unwrap();
    daemon.is_told("a", |growth| growth.stdout == 10_000);
    let directory = keeper.recordings("a");
    let mut reader = Reader::open(&directory, 1, None, from_offset(9_990)).unwrap();
    match reader.next(100).unwrap() {
        Next::Chunk { offset, data, .. } => {
            assert_eq!((offset, &data[..]), (9_990, &pattern(9_990, 10)[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_read_in_turn_is_recorded_in_turn() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (stdout, stderr) = (keeper.fifo("out"), keeper.fifo("err"));
    daemon.opens(keeper.open("a", BOTH), &[stdout.fd(), stderr.fd()]);
    let (mut out, mut err) = (stdout.writer(), stderr.writer());
    for turn in 1..=20 {
        out.write_all(b"o").unwrap();
        daemon.is_told("a", |growth| growth.stdout == turn);
        err.write_all(b"e").unwrap();
        daemon.is_told("a", |growth| growth.stderr == turn);
    }
    let directory = keeper.recordings("a");
    let mut reader = Reader::open(&directory, 1, None, from_offset(0)).unwrap();
    for turn in 0..40 {
        let expected = if turn % 2 == 0 {
            Output::Stdout
        } else {
            Output::Stderr
        };
        match reader.next(100).unwrap() {
            Next::Chunk { output, .. } => assert_eq!(output, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_process_is_let_only_so_far_ahead_of_its_reader_that_nothing_unread_goes() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (fifo, other) = (keeper.fifo("out"), keeper.fifo("other"));
    let mut open = keeper.open("a", STDOUT);
    open.limits = limits(64 << 10, 256 << 10);
    open.taken = Some(0);
    let ahead = open.limits.read_ahead_bytes();
    daemon.opens(open, &[fifo.fd()]);
    daemon.opens(keeper.open("b", STDOUT), &[other.fd()]);
    let mut child = Command::new("head")
        .args(["-c", "1000000", "/dev/zero"])
        .stdout(fifo.writer())
        .spawn()
        .unwrap();
    let mut other_writer = other.writer();
    for taken in [0, 50_000] {
        daemon.window("a", Some(taken));
        daemon.is_told("a", |growth| growth.stdout > taken + ahead * 9 / 10);
        // What the drain thread does for another stream comes after anything it would have done for this.
        other_writer.write_all(b"x").unwrap();
        daemon.is_told("b", |_| true);
        assert!(daemon.state("a").positions.stdout < taken + ahead);
        assert_eq!(keeper.recorded("a", Output::Stdout).dropped, 0);
    }
    assert!(
        child.try_wait().unwrap().is_none(),
        "the process is held back"
    );
    daemon.window("a", None);
    child.wait().unwrap();
    assert_eq!(daemon.finish("a", PATIENCE).0.stdout, 1_000_000);
}

#[test]
fn single_bytes_count_for_a_reader_as_what_it_takes_to_keep_them() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (fifo, other) = (keeper.fifo("out"), keeper.fifo("other"));
    let mut open = keeper.open("a", STDOUT);
    open.limits = limits(1024, 4096);
    open.taken = Some(0);
    daemon.opens(open, &[fifo.fd()]);
    daemon.opens(keeper.open("b", STDOUT), &[other.fd()]);
    let (mut writer, mut other_writer) = (fifo.writer(), other.writer());
    let mut written = 0;
    for taken in [0, 80] {
        daemon.window("a", Some(taken));
        // Each of these is a read of its own: half of 4 KiB less a segment holds 90.
        for _ in 0..80 {
            writer.write_all(b"x").unwrap();
            written += 1;
            daemon.is_told("a", |growth| growth.stdout == written);
        }
    }
    for _ in 0..20 {
        writer.write_all(b"x").unwrap();
        other_writer.write_all(b"x").unwrap();
        daemon.is_told("b", |_| true);
    }
    let reached = daemon.state("a").positions.stdout;
    assert!((160..=172).contains(&reached), "{reached}");
    daemon.window("a", Some(reached));
    daemon.is_told("a", |growth| growth.stdout == 180);
}

#[test]
fn a_window_goes_with_the_connection_that_set_it() {
    let keeper = Keeper::start();
    let (mut other, mut daemon) = (keeper.connect(), keeper.connect());
    let fifo = keeper.fifo("out");
    let mut open = keeper.open("a", STDOUT);
    open.limits = limits(1024, 4096);
    open.taken = Some(0);
    daemon.opens(open, &[fifo.fd()]);
    fifo.writer().write_all(&pattern(0, 10_000)).unwrap();
    other.is_told("a", |growth| growth.stdout > 1_000);
    assert!(other.state("a").positions.stdout < 2_000);
    drop(daemon);
    other.is_told("a", |growth| growth.stdout == 10_000);
}

#[test]
fn what_is_in_the_pipe_at_the_end_is_recorded_though_its_reader_does_not_read() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    let mut open = keeper.open("a", STDOUT);
    open.limits = limits(64 << 10, 192 << 10);
    open.taken = Some(0);
    daemon.opens(open, &[fifo.fd()]);
    fifo.writer().write_all(&pattern(0, 100_000)).unwrap();
    let (positions, truncated) = daemon.finish("a", PATIENCE);
    assert_eq!((positions.stdout, truncated), (100_000, false));
    assert_eq!(keeper.recorded("a", Output::Stdout).dropped, 0);
}

#[test]
fn an_end_waits_no_longer_than_asked_for_a_reader_that_too_little_is_kept_for() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    let mut open = keeper.open("a", STDOUT);
    open.limits = limits(1024, 4096);
    open.taken = Some(0);
    daemon.opens(open, &[fifo.fd()]);
    fifo.writer().write_all(&pattern(0, 50_000)).unwrap();
    let (positions, truncated) = daemon.finish("a", Duration::from_millis(100));
    assert_eq!((positions.stdout, truncated), (50_000, false));
}

#[test]
fn a_grandchild_that_holds_the_pipe_delays_the_end_no_longer_than_asked() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut grandchild = Command::new("sleep")
        .arg("1000")
        .stdout(fifo.writer())
        .spawn()
        .unwrap();
    fifo.writer().write_all(b"said before the end").unwrap();
    let within = Duration::from_millis(300);
    let begun = Instant::now();
    let (positions, truncated) = daemon.finish("a", within);
    let took = begun.elapsed();
    grandchild.kill().unwrap();
    grandchild.wait().unwrap();
    assert_eq!((positions.stdout, truncated), (19, true));
    assert!(took >= within && took < PATIENCE / 2, "it took {took:?}");
    assert_eq!(daemon.finish("a", within), (positions, true), "asked again");
    assert_eq!(keeper.recorded("a", Output::Stdout).truncated, Some(true));
    assert_eq!(daemon.state("a").outputs_open, 0);
}

#[test]
fn a_pipe_that_nobody_ever_wrote_to_is_at_its_end_when_the_process_is() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let begun = Instant::now();
    let (positions, truncated) = daemon.finish("a", PATIENCE);
    assert_eq!((positions.stdout, truncated), (0, false));
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn an_output_closed_early_does_not_end_the_recording() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (stdout, stderr) = (keeper.fifo("out"), keeper.fifo("err"));
    daemon.opens(keeper.open("a", BOTH), &[stdout.fd(), stderr.fd()]);
    stdout.writer().write_all(b"bye").unwrap();
    drop(stderr.writer());
    daemon.is_told("a", |growth| growth.stdout == 3);
    crate::harness::until(|| (daemon.state("a").outputs_open == 0).then_some(()));
    assert_eq!(keeper.recorded("a", Output::Stdout).truncated, None);
    assert!(!daemon.state("a").finished);
    assert!(!daemon.finish("a", PATIENCE).1);
}

#[test]
fn standard_input_is_handed_out_and_closed_as_told() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    let (read, write) = std::io::pipe().unwrap();
    let mut child = Command::new("cat")
        .stdin(read)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let descriptors = Descriptors {
        stdin: true,
        ..STDOUT
    };
    daemon.opens(keeper.open("a", descriptors), &[fifo.fd(), write.as_fd()]);
    drop(write);
    let stream = || "a".to_owned();
    let (answer, mut taken) = daemon.call(Call::TakeStdin { stream: stream() }, &[]);
    assert_eq!(answer, Answer::Stdin {});
    let mut stdin = std::fs::File::from(taken.pop().unwrap());
    stdin.write_all(b"through the keeper").unwrap();
    drop(stdin);
    assert!(
        child.try_wait().unwrap().is_none(),
        "the keeper still holds an end"
    );
    for _ in 0..2 {
        let (answer, _) = daemon.call(Call::CloseStdin { stream: stream() }, &[]);
        assert_eq!(answer, Answer::Done {});
    }
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child.wait().unwrap();
    assert_eq!(text, "through the keeper");
    let (answer, _) = daemon.call(Call::TakeStdin { stream: stream() }, &[]);
    assert!(matches!(
        answer,
        Answer::Refused {
            reason: Refusal::StdinClosed,
            ..
        }
    ));
}

#[test]
fn a_closed_stream_is_forgotten_and_its_process_notices() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut writer = fifo.writer();
    writer.write_all(b"kept").unwrap();
    daemon.is_told("a", |growth| growth.stdout == 4);
    drop(fifo);
    for _ in 0..2 {
        let (answer, _) = daemon.call(Call::Close { stream: "a".into() }, &[]);
        assert_eq!(answer, Answer::Done {});
    }
    assert!(daemon.list().is_empty());
    until(|| {
        let mut end = [PollFd::new(&writer, PollFlags::empty())];
        poll(&mut end, Some(&Timespec::default())).unwrap();
        end[0].revents().contains(PollFlags::ERR).then_some(())
    });
    assert!(writer.write_all(b"lost").is_err(), "nobody reads any more");
    assert_eq!(keeper.recorded("a", Output::Stdout).bytes, b"kept");
}

fn limits(segment_bytes: u64, total_bytes: u64) -> Limits {
    Limits {
        segment_bytes,
        total_bytes,
    }
}
