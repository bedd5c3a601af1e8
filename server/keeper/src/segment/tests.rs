//! Writers and readers against a model: the byte at an offset of a stream is known in advance, so every
//! chunk proves where it belongs.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SMALL: Limits = Limits {
    segment_bytes: 400,
    total_bytes: 1_600,
};
const LARGE: Limits = Limits {
    segment_bytes: 1 << 20,
    total_bytes: 1 << 24,
};

fn byte(output: Output, offset: u64) -> u8 {
    let salt = match output {
        Output::Stdout => 17,
        Output::Stderr => 91,
    };
    (offset
        .wrapping_mul(31)
        .wrapping_add(offset >> 8)
        .wrapping_add(salt)
        % 251) as u8
}

fn bytes_at(output: Output, offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length)
        .map(|at| byte(output, at))
        .collect()
}

fn write(writer: &mut Writer, time: u64, output: Output, length: u64) {
    let positions = writer.positions();
    let at = match output {
        Output::Stdout => positions.stdout,
        Output::Stderr => positions.stderr,
    };
    writer
        .append(time, output, &bytes_at(output, at, length))
        .unwrap();
}

fn writer(directory: &Path, run: u64, limits: Limits) -> Writer {
    Writer::open(directory, run, limits, 1).unwrap()
}

fn reader(directory: &Path, start: Start) -> Reader {
    Reader::open(directory, 1, None, start).unwrap()
}

/// Follows a reader and holds every answer against the model.
struct Checked {
    reader: Reader,
    next: Offsets,
    unknown_gaps: usize,
    delivered: u64,
}

impl Checked {
    fn new(reader: Reader) -> Self {
        Self {
            next: reader.position(),
            reader,
            unknown_gaps: 0,
            delivered: 0,
        }
    }

    fn step(&mut self, max_bytes: usize) -> Next {
        let next = self.reader.next(max_bytes).unwrap();
        match &next {
            Next::Chunk {
                output,
                offset,
                data,
                ..
            } => {
                assert_eq!(
                    *offset,
                    self.next.of(*output),
                    "no byte twice, none left out"
                );
                assert!(!data.is_empty() && data.len() <= max_bytes);
                assert_eq!(data[..], bytes_at(*output, *offset, data.len() as u64));
                self.next.advance(*output, data.len() as u64);
                self.delivered += data.len() as u64;
            }
            Next::Gap {
                output: Some(output),
                dropped_bytes,
            } if *dropped_bytes > 0 => self.next.advance(*output, *dropped_bytes),
            Next::Gap { .. } => self.unknown_gaps += 1,
            Next::End(_) | Next::Pending => {}
        }
        assert_eq!(self.next, self.reader.position());
        next
    }

    fn finish(&mut self) -> Next {
        loop {
            match self.step(4096) {
                next @ (Next::Pending | Next::End(_)) => return next,
                Next::Chunk { .. } | Next::Gap { .. } => {}
            }
        }
    }
}

#[test]
fn what_was_written_is_read_in_order_with_offsets_and_times() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, LARGE);
    write(&mut writer, 10, Output::Stdout, 5);
    write(&mut writer, 11, Output::Stderr, 3);
    write(&mut writer, 12, Output::Stdout, 2);
    writer.end(13, End { truncated: false }).unwrap();
    let mut reader = reader(directory.path(), Start::Beginning);
    let chunk = |time, output, offset, length| Next::Chunk {
        time,
        output,
        offset,
        data: bytes_at(output, offset, length).into(),
    };
    assert_eq!(reader.next(100).unwrap(), chunk(10, Output::Stdout, 0, 5));
    assert_eq!(reader.next(2).unwrap(), chunk(11, Output::Stderr, 0, 2));
    assert_eq!(reader.next(2).unwrap(), chunk(11, Output::Stderr, 2, 1));
    assert_eq!(reader.next(100).unwrap(), chunk(12, Output::Stdout, 5, 2));
    let end = Next::End(End { truncated: false });
    assert_eq!(reader.next(100).unwrap(), end);
    assert_eq!(reader.next(100).unwrap(), end, "it stays the end");
    assert_eq!(reader.started(), 1);
}

#[test]
fn a_process_that_writes_nothing_costs_one_small_file() {
    let directory = TempDir::new().unwrap();
    writer(directory.path(), 1, LARGE);
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].as_ref().unwrap().metadata().unwrap().len(), 64);
    assert_eq!(
        reader(directory.path(), Start::Beginning).next(1).unwrap(),
        Next::Pending
    );
}

#[test]
fn a_directory_never_exceeds_its_limit_and_a_reader_left_behind_is_told_exactly() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, SMALL);
    write(&mut writer, 2, Output::Stdout, 10);
    let mut behind = Checked::new(reader(directory.path(), Start::Beginning));
    for time in 0..200 {
        write(&mut writer, time, Output::Stdout, 70);
        write(&mut writer, time, Output::Stderr, 30);
        let kept: u64 = fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(kept <= SMALL.total_bytes, "{kept} bytes are kept");
    }
    writer.end(1, End { truncated: true }).unwrap();
    assert_eq!(behind.finish(), Next::End(End { truncated: true }));
    assert_eq!((behind.next.stdout, behind.next.stderr), (14_010, 6_000));
    assert!(
        behind.delivered < 20_000,
        "some of it had been rotated away"
    );
}

#[test]
fn the_recordings_of_earlier_runs_are_the_first_to_go() {
    let directory = TempDir::new().unwrap();
    for run in 1..=3 {
        let mut writer = writer(directory.path(), run, SMALL);
        write(&mut writer, run, Output::Stdout, 300);
        writer.end(run, End { truncated: false }).unwrap();
    }
    assert_eq!(runs(directory.path()).unwrap(), [1, 2, 3]);
    let mut writer = writer(directory.path(), 4, SMALL);
    let mut first = reader(directory.path(), Start::Beginning);
    write(&mut writer, 4, Output::Stdout, 900);
    assert_eq!(runs(directory.path()).unwrap(), [3, 4]);
    assert!(
        matches!(first.next(1000), Ok(Next::Gap { .. })),
        "its data has gone"
    );
    assert!(matches!(
        Reader::open(directory.path(), 1, None, Start::Oldest),
        Err(SegmentError::NoRecording { run: 1, .. })
    ));
}

#[test]
fn there_are_never_more_segments_than_allowed() {
    let directory = TempDir::new().unwrap();
    for run in 0..MAX_SEGMENTS as u64 + 20 {
        writer(directory.path(), run, LARGE);
    }
    assert_eq!(runs(directory.path()).unwrap().len(), MAX_SEGMENTS);
}

#[test]
fn replay_begins_so_many_bytes_before_the_end_of_each_stream() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, SMALL);
    for time in 0..12 {
        write(&mut writer, time, Output::Stdout, 50);
    }
    write(&mut writer, 100, Output::Stderr, 40);
    let start = Start::Streams {
        stdout: From::Replay(120),
        stderr: From::Replay(1_000_000),
    };
    let mut replayed = Checked::new(reader(directory.path(), start));
    assert_eq!(
        replayed.reader.position(),
        Offsets {
            stdout: 480,
            stderr: 0
        }
    );
    assert_eq!(replayed.finish(), Next::Pending);
    assert_eq!(replayed.delivered, 160);
    let start = Start::Streams {
        stdout: From::Offset(599),
        stderr: From::Replay(0),
    };
    let mut resumed = Checked::new(reader(directory.path(), start));
    assert_eq!(resumed.finish(), Next::Pending);
    assert_eq!(resumed.delivered, 1);
}

#[test]
fn a_reader_that_begins_at_the_end_gets_only_what_comes_later() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, LARGE);
    write(&mut writer, 1, Output::Stdout, 10);
    writer.gap(1, None, 0).unwrap();
    let mut late = Checked::new(reader(directory.path(), Start::End));
    assert_eq!(late.finish(), Next::Pending);
    write(&mut writer, 2, Output::Stdout, 3);
    assert_eq!(late.finish(), Next::Pending);
    assert_eq!((late.delivered, late.unknown_gaps), (3, 0));
}

#[test]
fn a_reader_of_one_stream_passes_over_the_other() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, SMALL);
    for time in 0..100 {
        write(&mut writer, time, Output::Stdout, 9);
        write(&mut writer, time, Output::Stderr, 90);
    }
    let only = Some(Output::Stdout);
    let mut reader = Reader::open(directory.path(), 1, only, Start::Oldest).unwrap();
    let mut seen = reader.position().stdout;
    loop {
        match reader.next(4096).unwrap() {
            Next::Chunk { output, data, .. } => {
                assert_eq!(output, Output::Stdout);
                seen += data.len() as u64;
            }
            Next::Pending => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 900);
    assert_eq!(
        reader.position(),
        Offsets {
            stdout: 900,
            stderr: 9_000
        }
    );
}

#[test]
fn a_time_is_found_across_segments() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, SMALL);
    for time in 0..10 {
        write(&mut writer, time * 10, Output::Stdout, 100);
    }
    for (asked, expected) in [(45, 50), (50, 50), (90, 90)] {
        let mut reader = reader(directory.path(), Start::Time(asked));
        match reader.next(10).unwrap() {
            Next::Chunk { time, .. } => assert_eq!(time, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        reader(directory.path(), Start::Time(91)).next(10).unwrap(),
        Next::Pending
    );
}

#[test]
fn segments_tell_where_they_begin() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, SMALL);
    for time in 0..5 {
        write(&mut writer, time, Output::Stdout, 200);
    }
    let segments = segments(directory.path(), 1).unwrap();
    assert!(segments.len() > 2);
    for info in segments {
        let at = reader(directory.path(), Start::Segment(info.segment)).position();
        assert_eq!(at, info.begin);
    }
    assert!(matches!(
        Reader::open(directory.path(), 1, None, Start::Segment(99)),
        Err(SegmentError::NoSegment { segment: 99, .. })
    ));
}

#[test]
fn a_known_loss_keeps_offsets_true_and_an_unknown_one_is_told() {
    let directory = TempDir::new().unwrap();
    let mut writer = writer(directory.path(), 1, LARGE);
    write(&mut writer, 1, Output::Stdout, 10);
    writer.gap(2, Some(Output::Stdout), 90).unwrap();
    writer.gap(2, None, 0).unwrap();
    write(&mut writer, 3, Output::Stdout, 10);
    assert_eq!(positions(directory.path(), 1).unwrap().stdout, 110);
    let mut all = Checked::new(reader(directory.path(), Start::Beginning));
    all.finish();
    assert_eq!((all.delivered, all.unknown_gaps), (20, 1));
    let start = Start::Streams {
        stdout: From::Offset(60),
        stderr: From::Offset(0),
    };
    let mut within = reader(directory.path(), start);
    let rest = Next::Gap {
        output: Some(Output::Stdout),
        dropped_bytes: 40,
    };
    assert_eq!(within.next(100).unwrap(), rest);
}

#[test]
fn an_ended_recording_stays_as_it_is() {
    let directory = TempDir::new().unwrap();
    let mut first = writer(directory.path(), 1, LARGE);
    write(&mut first, 1, Output::Stderr, 10);
    first.end(2, End { truncated: true }).unwrap();
    let mut again = writer(directory.path(), 1, LARGE);
    let ended = Some(End { truncated: true });
    assert_eq!(again.positions().ended, ended);
    assert!(matches!(
        again.append(3, Output::Stdout, b"x"),
        Err(Shortfall {
            written: 0,
            source: SegmentError::Ended
        })
    ));
    again.end(3, End { truncated: false }).unwrap();
    assert_eq!(positions(directory.path(), 1).unwrap().ended, ended);
}

/// What a writer may leave when it is killed between any two of its system calls.
fn leave_torn_tail(directory: &Path, torn: u8) {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let index = names
        .iter()
        .rfind(|name| name.extension().unwrap() == "index")
        .unwrap();
    let torn = usize::from(torn);
    if torn.is_multiple_of(2) {
        let mut index = OpenOptions::new().append(true).open(index).unwrap();
        index.write_all(&[7; 15][..torn % 16]).unwrap();
    }
    if index.with_extension("data").exists() || torn.is_multiple_of(3) {
        let mut data = OpenOptions::new();
        let data = data
            .append(true)
            .create(true)
            .open(index.with_extension("data"));
        data.unwrap().write_all(&vec![0xff; torn]).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write { stdout: bool, length: u64 },
    KnownLoss { stdout: bool, length: u64 },
    UnknownLoss,
    Kill { torn: u8 },
    OpenReader(u8),
    Read { reader: u8, steps: u8, max: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<bool>(), 1..700_u64).prop_map(|(stdout, length)| Act::Write { stdout, length }),
        1 => (any::<bool>(), 1..500_u64)
            .prop_map(|(stdout, length)| Act::KnownLoss { stdout, length }),
        1 => Just(Act::UnknownLoss),
        1 => any::<u8>().prop_map(|torn| Act::Kill { torn }),
        1 => any::<u8>().prop_map(Act::OpenReader),
        6 => (any::<u8>(), 1..12_u8, 1..300_usize)
            .prop_map(|(reader, steps, max)| Act::Read { reader, steps, max }),
    ]
}

fn which(stdout: bool) -> Output {
    if stdout {
        Output::Stdout
    } else {
        Output::Stderr
    }
}

fn start_of(choice: u8) -> Start {
    match choice % 5 {
        0 => Start::Beginning,
        1 => Start::Oldest,
        2 => Start::End,
        3 => Start::Time(u64::from(choice)),
        _ => Start::Streams {
            stdout: From::Replay(u64::from(choice) * 3),
            stderr: From::Offset(u64::from(choice)),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_gets_every_byte_or_is_told_of_it(
        acts in proptest::collection::vec(act(), 1..80),
        segment_bytes in 128..900_u64,
        segments in 2..6_u64,
        truncated in any::<bool>(),
    ) {
        let directory = TempDir::new().unwrap();
        let limits = Limits { segment_bytes, total_bytes: segments * segment_bytes };
        let mut open = writer(directory.path(), 1, limits);
        let mut readers = vec![Checked::new(reader(directory.path(), Start::Beginning))];
        for (time, act) in acts.into_iter().enumerate() {
            let time = time as u64;
            match act {
                Act::Write { stdout, length } => write(&mut open, time, which(stdout), length),
                Act::KnownLoss { stdout, length } => {
                    open.gap(time, Some(which(stdout)), length).unwrap();
                }
                Act::UnknownLoss => open.gap(time, None, 0).unwrap(),
                Act::Kill { torn } => {
                    let before = open.positions();
                    drop(open);
                    leave_torn_tail(directory.path(), torn);
                    open = writer(directory.path(), 1, limits);
                    prop_assert_eq!(open.positions(), before);
                }
                Act::OpenReader(choice) => {
                    readers.push(Checked::new(reader(directory.path(), start_of(choice))));
                }
                Act::Read { reader, steps, max } => {
                    let count = readers.len();
                    for _ in 0..steps {
                        readers[usize::from(reader) % count].step(max);
                    }
                }
            }
            prop_assert_eq!(positions(directory.path(), 1).unwrap(), open.positions());
        }
        open.end(1_000, End { truncated }).unwrap();
        let end = open.positions();
        for mut reader in readers {
            // An offset beyond the end is never reached.
            let beyond = reader.next.stderr > end.stderr;
            prop_assert_eq!(reader.finish(), Next::End(End { truncated }));
            prop_assert_eq!(reader.next.stdout, end.stdout);
            prop_assert!(beyond || reader.next.stderr == end.stderr);
        }
    }

    #[test]
    fn whatever_a_power_cut_leaves_is_read_without_a_wrong_byte(
        lengths in proptest::collection::vec((any::<bool>(), 1..300_u64), 1..20),
        index_cut in 0..400_u64,
        data_cut in 0..400_u64,
        zeros in any::<bool>(),
    ) {
        let directory = TempDir::new().unwrap();
        let mut first = writer(directory.path(), 1, LARGE);
        for (time, (stdout, length)) in lengths.into_iter().enumerate() {
            write(&mut first, time as u64, which(stdout), length);
        }
        drop(first);
        for (part, cut) in [("index", index_cut), ("data", data_cut)] {
            let path = directory.path().join(format!("{:010}.{:010}.{part}", 1, 0));
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length.saturating_sub(cut)).unwrap();
            if zeros && part == "index" {
                file.set_len(length).unwrap();
            }
        }
        match Reader::open(directory.path(), 1, None, Start::Beginning) {
            Ok(reader) => { Checked::new(reader).finish(); }
            Err(SegmentError::NoRecording { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let mut again = writer(directory.path(), 1, LARGE);
        write(&mut again, 1_000, Output::Stdout, 50);
        let mut all = Checked::new(reader(directory.path(), Start::Beginning));
        all.finish();
        prop_assert_eq!(all.next.stdout, again.positions().stdout);
    }

    #[test]
    fn bytes_that_are_no_index_harm_nobody(garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        let directory = TempDir::new().unwrap();
        let mut first = writer(directory.path(), 1, LARGE);
        write(&mut first, 1, Output::Stdout, 100);
        drop(first);
        let path = directory.path().join(format!("{:010}.{:010}.index", 1, 0));
        let mut index = OpenOptions::new().append(true).open(path).unwrap();
        index.write_all(&garbage).unwrap();
        let mut reader = reader(directory.path(), Start::Beginning);
        for _ in 0..100 {
            reader.next(1000).unwrap();
        }
        positions(directory.path(), 1).unwrap();
        writer(directory.path(), 1, LARGE);
    }
}

#[test]
fn readers_beside_a_writing_thread_get_every_byte_or_are_told() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        segment_bytes: 20_000,
        total_bytes: 60_000,
    };
    let mut writer = writer(directory.path(), 1, limits);
    let path = directory.path();
    let ends: BTreeMap<usize, Offsets> = std::thread::scope(|scope| {
        let read = |slowness: usize| {
            let mut checked = Checked::new(reader(path, Start::Beginning));
            loop {
                match checked.step(1 + 4096 / slowness) {
                    Next::End(_) => return (slowness, checked.next),
                    _ => std::thread::yield_now(),
                }
            }
        };
        let readers: Vec<_> = [1, 3, 50]
            .into_iter()
            .map(|slowness| scope.spawn(move || read(slowness)))
            .collect();
        for time in 0..20_000 {
            write(&mut writer, time, which(time % 3 == 0), 1 + time % 200);
        }
        writer.end(1, End { truncated: false }).unwrap();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    let end = writer.positions();
    for offsets in ends.values() {
        assert_eq!((offsets.stdout, offsets.stderr), (end.stdout, end.stderr));
    }
}
