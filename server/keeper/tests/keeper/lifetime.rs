//! When the keeper comes and goes, and what it does when daemons do.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use wharf_keeper::protocol::Call;
use wharf_keeper::segment::Output;

use crate::harness::{Keeper, PATIENCE, STDOUT, command, pattern};

#[test]
fn a_daemon_that_comes_back_finds_everything_and_is_told_of_more() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (fifo, stdin) = (keeper.fifo("out"), std::io::pipe().unwrap().1);
    let mut descriptors = STDOUT;
    descriptors.stdin = true;
    let stdin: std::os::fd::OwnedFd = stdin.into();
    daemon.opens(
        keeper.open("a", descriptors),
        &[fifo.fd(), std::os::fd::AsFd::as_fd(&stdin)],
    );
    drop(daemon);
    let mut writer = fifo.writer();
    writer.write_all(&pattern(0, 500_000)).unwrap();
    let mut daemon = keeper.connect();
    let state = crate::harness::until(|| {
        let state = daemon.state("a");
        (state.positions.stdout == 500_000).then_some(state)
    });
    assert_eq!(
        (state.run, state.outputs_open, state.stdin_open),
        (1, 1, true)
    );
    assert_eq!(state.directory, keeper.recordings("a"));
    writer.write_all(&pattern(500_000, 7)).unwrap();
    daemon.is_told("a", |growth| growth.stdout == 500_007);
    assert!(keeper.recorded("a", Output::Stdout).bytes == pattern(0, 500_007));
}

#[test]
fn more_streams_than_fit_a_packet_are_listed_in_pages() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let names: Vec<String> = (0..400).map(|n| format!("{n:0100}")).collect();
    for name in &names {
        let fifo = keeper.fifo(name);
        daemon.opens(keeper.open(name, STDOUT), &[fifo.fd()]);
    }
    let listed: Vec<String> = daemon
        .list()
        .into_iter()
        .map(|state| state.stream)
        .collect();
    assert_eq!(listed, names);
}

#[test]
fn a_second_keeper_of_a_directory_is_refused() {
    let keeper = Keeper::start();
    let second = command(keeper.directory.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(second.code(), Some(3));
    keeper.connect();
}

#[test]
fn a_keeper_with_nothing_to_do_ends_and_leaves_room_for_another() {
    let mut keeper = Keeper::start_in(TempDir::new().unwrap(), 0);
    assert_eq!(keeper.wait().code(), Some(0));
    keeper.killed_and_started_again().connect();
}

#[test]
fn a_keeper_whose_daemon_has_been_silent_waits_for_the_next_one_as_long_as_for_any() {
    const IDLE_EXIT: Duration = Duration::from_secs(1);
    let mut keeper = Keeper::start_in(TempDir::new().unwrap(), IDLE_EXIT.as_secs());
    let daemon = keeper.connect();
    // Nothing wakes the keeper meanwhile: the silence is what is tested.
    std::thread::park_timeout(IDLE_EXIT + Duration::from_millis(200));
    let left = Instant::now();
    drop(daemon);
    assert_eq!(keeper.wait().code(), Some(0));
    assert!(left.elapsed() >= IDLE_EXIT, "after {:?}", left.elapsed());
}

#[test]
fn a_keeper_that_keeps_something_is_ended_neither_by_idleness_nor_by_sigterm() {
    let mut keeper = Keeper::start_in(TempDir::new().unwrap(), 1);
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        keeper.signal(signal);
    }
    fifo.writer().write_all(b"x").unwrap();
    daemon.is_told("a", |growth| growth.stdout == 1);
    assert!(keeper.is_running());
    daemon.finish("a", PATIENCE);
    daemon.call(Call::Close { stream: "a".into() }, &[]);
    keeper.signal(Signal::INT);
    daemon.list();
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.wait().code(), Some(0));
}

#[test]
fn the_program_runs_from_a_copy_that_nobody_can_change() {
    let keeper = Keeper::start();
    let program = format!("/proc/{}/exe", keeper.pid());
    let path = std::fs::read_link(&program).unwrap();
    assert!(
        path.to_string_lossy().starts_with("/memfd:wharf-keeper"),
        "{path:?}"
    );
    assert!(
        std::fs::OpenOptions::new()
            .write(true)
            .open(&program)
            .is_err()
    );
    let name = std::fs::read_to_string(format!("/proc/{}/comm", keeper.pid())).unwrap();
    assert_eq!(name, "wharf-keeper\n");
}
