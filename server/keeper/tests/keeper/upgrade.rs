//! Going on as another program, or as the same one again, in place.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use wharf_keeper::protocol::{Answer, Call, Refusal};
use wharf_keeper::segment::Output;

use crate::harness::{Keeper, PATIENCE, STDOUT, pattern};

#[test]
fn an_upgrade_under_load_loses_and_doubles_nothing() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    let (mut stdin_end, stdin) = std::io::pipe().unwrap();
    let mut descriptors = STDOUT;
    descriptors.stdin = true;
    daemon.opens(keeper.open("a", descriptors), &[fifo.fd(), stdin.as_fd()]);
    drop(stdin);
    let mut child = Command::new("seq")
        .args(["1", "5000000"])
        .stdout(fifo.writer())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for round in 0..5 {
        daemon.is_told("a", |growth| growth.stdout > seen);
        seen = daemon.state("a").positions.stdout;
        let binary = File::open(env!("CARGO_BIN_EXE_wharf-keeper")).unwrap();
        let given = [binary.as_fd()];
        daemon.ask(Call::Upgrade {}, if round % 2 == 0 { &given } else { &[] });
        daemon.is_dropped();
        daemon = keeper.connect();
        assert!(daemon.state("a").positions.stdout >= seen);
    }
    child.wait().unwrap();
    assert!(!daemon.finish("a", PATIENCE).1);
    let recorded = keeper.recorded("a", Output::Stdout);
    let expected: String = (1..=5_000_000).map(|line| format!("{line}\n")).collect();
    assert_eq!((recorded.dropped, recorded.unknown_gaps), (0, 0));
    assert!(
        recorded.bytes == expected.as_bytes(),
        "the lines are not each there once"
    );
    let (_, mut taken) = daemon.call(Call::TakeStdin { stream: "a".into() }, &[]);
    File::from(taken.pop().unwrap())
        .write_all(b"still there")
        .unwrap();
    daemon.call(Call::Close { stream: "a".into() }, &[]);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdin_end, &mut text).unwrap();
    assert_eq!(text, "still there", "and nobody else holds the write end");
}

#[test]
fn what_was_being_finished_is_finished_after_an_upgrade() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (done, held) = (keeper.fifo("done"), keeper.fifo("held"));
    daemon.opens(keeper.open("done", STDOUT), &[done.fd()]);
    daemon.opens(keeper.open("held", STDOUT), &[held.fd()]);
    let mut writer = held.writer();
    writer.write_all(b"1").unwrap();
    let finished = daemon.finish("done", PATIENCE);
    daemon.ask(
        Call::Finish {
            stream: "held".into(),
            within_ms: 1_500,
        },
        &[],
    );
    daemon.ask(Call::Upgrade {}, &[]);
    daemon.is_dropped();
    let mut daemon = keeper.connect();
    writer.write_all(b"2").unwrap();
    assert_eq!(daemon.finish("done", PATIENCE), finished);
    let (positions, truncated) = daemon.finish("held", Duration::from_millis(1));
    assert_eq!(
        (positions.stdout, truncated),
        (2, true),
        "the first time asked for counts"
    );
}

#[test]
fn a_binary_that_cannot_run_changes_nothing() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut writer = fifo.writer();
    writer.write_all(&pattern(0, 1_000)).unwrap();
    let mut garbage = tempfile::tempfile().unwrap();
    garbage.write_all(&[0xde; 4_096]).unwrap();
    garbage.rewind().unwrap();
    let (answer, _) = daemon.call(Call::Upgrade {}, &[garbage.as_fd()]);
    assert!(matches!(
        answer,
        Answer::Refused {
            reason: Refusal::UpgradeFailed,
            ..
        }
    ));
    writer.write_all(&pattern(1_000, 1_000)).unwrap();
    drop(writer);
    assert_eq!(daemon.finish("a", PATIENCE).0.stdout, 2_000);
    assert!(keeper.recorded("a", Output::Stdout).bytes == pattern(0, 2_000));
}
