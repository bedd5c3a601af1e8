//! Deaths, disks and daemons that do not behave.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use wharf_keeper::protocol::{Answer, Call, Refusal, Request, send};
use wharf_keeper::segment::Output;

use crate::harness::{Daemon, Keeper, PATIENCE, STDOUT, byte_at, pattern, until};

#[test]
fn after_its_death_the_next_keeper_continues_behind_a_gap() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut writer = fifo.writer();
    writer.write_all(&pattern(0, 100_000)).unwrap();
    daemon.is_told("a", |growth| growth.stdout == 100_000);
    let keeper = keeper.killed_and_started_again();
    let mut daemon = keeper.connect();
    assert!(daemon.list().is_empty());
    let mut open = keeper.open("a", STDOUT);
    open.continues = true;
    assert_eq!(daemon.opens(open, &[fifo.fd()]).stdout, 100_000);
    writer.write_all(&pattern(100_000, 50)).unwrap();
    drop(writer);
    assert_eq!(daemon.finish("a", PATIENCE).0.stdout, 100_050);
    let recorded = keeper.recorded("a", Output::Stdout);
    assert_eq!((recorded.unknown_gaps, recorded.dropped), (1, 0));
    assert!(recorded.bytes == pattern(0, 100_050));
}

#[test]
fn a_recording_that_was_complete_stays_so_for_the_next_keeper() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    fifo.writer().write_all(b"all").unwrap();
    let finished = daemon.finish("a", PATIENCE);
    let keeper = keeper.killed_and_started_again();
    let mut daemon = keeper.connect();
    let mut open = keeper.open("a", STDOUT);
    open.continues = true;
    assert_eq!(daemon.opens(open, &[fifo.fd()]), finished.0);
    assert_eq!(daemon.finish("a", PATIENCE), finished);
    assert_eq!(keeper.recorded("a", Output::Stdout).unknown_gaps, 0);
}

/// A file system of its own, as small as can be.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount(
            "tmpfs",
            path,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_exactly_the_bytes_that_the_gap_counts() {
    const TOTAL: usize = 4_000_000;
    let keeper = Keeper::start();
    let disk = Tmpfs::new(&keeper.recordings("a"), "1m");
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 600_000]).unwrap();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut writer = fifo.writer();
    writer.write_all(&pattern(0, TOTAL)).unwrap();
    fs::remove_file(&ballast).unwrap();
    // The loss itself is told without anything more being written.
    daemon.is_told("a", |growth| growth.stdout == TOTAL as u64);
    writer.write_all(&pattern(TOTAL as u64, 1_000)).unwrap();
    drop(writer);
    let (positions, truncated) = daemon.finish("a", PATIENCE);
    assert_eq!((positions.stdout, truncated), (TOTAL as u64 + 1_000, false));
    let recorded = keeper.recorded("a", Output::Stdout);
    assert!(recorded.dropped > 2_000_000, "the disk was full");
    assert_eq!(
        recorded.dropped + recorded.bytes.len() as u64,
        positions.stdout
    );
    for (offset, at) in recorded.places {
        assert_eq!(recorded.bytes[at], byte_at(offset), "at {offset}");
    }
}

/// A process that has ended, and has written 256 bytes of which a full disk had no room for the last four.
struct Filled {
    keeper: Keeper,
    daemon: Daemon,
    ballast: PathBuf,
    _disk: Tmpfs,
}

fn filled() -> Filled {
    let keeper = Keeper::start();
    let disk = Tmpfs::new(&keeper.recordings("a"), "1m");
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let mut writer = fifo.writer();
    // A whole page of entries, so that the next one needs a page.
    for entry in 1..=252 {
        writer.write_all(b"x").unwrap();
        daemon.is_told("a", |growth| growth.stdout == entry);
    }
    let ballast = disk.0.join("ballast");
    let filled = fs::write(&ballast, vec![1; 2_000_000]);
    assert!(filled.is_err(), "the disk is full");
    writer.write_all(b"lost").unwrap();
    // An end that is asked for earlier might find room: these bytes have been read, and whoever records them
    // has done so before it opens another stream.
    until(|| (rustix::io::ioctl_fionread(&writer).unwrap() == 0).then_some(()));
    daemon.opens(keeper.open("b", STDOUT), &[keeper.fifo("other").fd()]);
    Filled {
        keeper,
        daemon,
        ballast,
        _disk: disk,
    }
}

fn finish(within_ms: u64) -> Call {
    Call::Finish {
        stream: "a".to_owned(),
        within_ms,
    }
}

fn must_have_ended_with_a_gap(keeper: &Keeper) {
    let found = keeper.recorded("a", Output::Stdout);
    assert_eq!((found.bytes.len(), found.dropped), (252, 4));
    assert_eq!(found.truncated, Some(false));
}

#[test]
fn an_end_waits_for_room_on_the_disk_as_long_as_it_may() {
    let mut place = filled();
    let asked = place.daemon.ask(finish(20_000), &[]);
    fs::remove_file(&place.ballast).unwrap();
    match place.daemon.answer(asked).0 {
        Answer::Finished {
            positions,
            recorded: true,
            truncated: false,
        } => assert_eq!(positions.stdout, 256),
        other => panic!("{other:?}"),
    }
    must_have_ended_with_a_gap(&place.keeper);
}

#[test]
fn an_end_that_cannot_be_written_in_time_is_written_later() {
    let mut place = filled();
    match place.daemon.call(finish(100), &[]).0 {
        Answer::Finished { recorded, .. } => assert!(!recorded),
        other => panic!("{other:?}"),
    }
    fs::remove_file(&place.ballast).unwrap();
    place.daemon.is_told("a", |growth| growth.ended.is_some());
    must_have_ended_with_a_gap(&place.keeper);
}

#[test]
fn a_frozen_disk_does_not_keep_requests_from_being_answered() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let (fifo, (_read, write)) = (keeper.fifo("out"), std::io::pipe().unwrap());
    let write: OwnedFd = write.into();
    let mut descriptors = STDOUT;
    descriptors.stdin = true;
    let stdin = std::os::fd::AsFd::as_fd(&write);
    daemon.opens(keeper.open("a", descriptors), &[fifo.fd(), stdin]);
    // Whoever opens it for writing waits, as one does for a file on a frozen disk.
    let data = keeper.recordings("a").join("0000000001.0000000000.data");
    mknodat(CWD, &data, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fifo.writer().write_all(b"x").unwrap();
    let stuck = format!("/proc/{}/task", keeper.pid());
    until(|| {
        let mut tasks = fs::read_dir(&stuck).unwrap();
        tasks.find_map(|task| {
            let wait = fs::read_to_string(task.unwrap().path().join("wchan")).unwrap();
            wait.contains("wait_for_partner").then_some(())
        })
    });
    let another = keeper.fifo("another");
    let opening = daemon.ask(Call::Open(keeper.open("b", STDOUT)), &[another.fd()]);
    assert_eq!(daemon.list().len(), 2);
    let (_, taken) = daemon.call(Call::TakeStdin { stream: "a".into() }, &[]);
    assert_eq!(taken.len(), 1);
    keeper.connect();
    drop(fs::File::open(&data).unwrap());
    let (answer, _) = daemon.answer(opening);
    assert!(matches!(
        answer,
        wharf_keeper::protocol::Answer::Opened { .. }
    ));
}

#[test]
fn a_daemon_that_never_reads_slows_nobody() {
    const LINES: u64 = 20_000;
    let keeper = Keeper::start();
    let silent = keeper.connect();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    // Its answers fill the socket.
    for id in 0..100 {
        let call = Call::List { after: None };
        send(&silent.socket, &Request { id, call }, &[]).unwrap();
    }
    let mut writer = fifo.writer();
    for line in 1..=LINES {
        writer.write_all(b"a line of some bytes\n").unwrap();
        if line % 100 == 0 {
            daemon.is_told("a", |growth| growth.stdout == line * 21);
        }
    }
    drop(writer);
    assert_eq!(daemon.finish("a", PATIENCE).0.stdout, LINES * 21);
    drop(silent);
}

#[test]
fn a_keeper_takes_no_more_streams_than_it_has_descriptors_for() {
    let keeper = Keeper::start();
    let pid = Pid::from_child(&keeper.process);
    // What it needs for itself, and two streams.
    let few = Rlimit {
        current: Some(138),
        maximum: Some(138),
    };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    let mut daemon = keeper.connect();
    let fifos = ["a", "b", "c"].map(|name| (name, keeper.fifo(name)));
    for (name, fifo) in &fifos[..2] {
        daemon.opens(keeper.open(name, STDOUT), &[fifo.fd()]);
    }
    let third = Call::Open(keeper.open("c", STDOUT));
    let (answer, _) = daemon.call(third, &[fifos[2].1.fd()]);
    let Answer::Refused { reason, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason, Refusal::TooMany);
    fifos[0].1.writer().write_all(b"whole").unwrap();
    assert_eq!(daemon.finish("a", PATIENCE).0.stdout, 5);
}
