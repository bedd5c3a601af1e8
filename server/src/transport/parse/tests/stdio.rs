//! Which output is asked for, and from where.

use wharf_api::v1;

use super::flaws;
use crate::engine::{Follow, StartAt};
use crate::transport::Violations;
use crate::transport::parse::exec;

const STDOUT: i32 = 1;
const STDERR: i32 = 2;

fn follow(streams: &[i32], replay_bytes: i64, resume: &[(i32, u64)]) -> v1::FollowExecRequest {
    let offset = |(stream, offset): &(i32, u64)| v1::StreamOffset {
        stream: *stream,
        offset: *offset,
    };
    v1::FollowExecRequest {
        streams: streams.to_vec(),
        replay_bytes,
        resume: resume.iter().map(offset).collect(),
        ..Default::default()
    }
}

fn read(request: v1::FollowExecRequest) -> (Option<StartAt>, Option<StartAt>) {
    let mut out = Violations::new();
    let Follow { stdout, stderr } = exec::follow(request, &mut out);
    assert!(out.is_empty(), "{out}");
    (stdout, stderr)
}

#[test]
fn no_streams_are_all_of_them_and_only_what_is_new() {
    let new = Some(StartAt::Recent(0));
    assert_eq!(read(follow(&[], 0, &[])), (new, new));
    assert_eq!(read(follow(&[STDERR, STDERR], 0, &[])), (None, new));
}

#[test]
fn a_position_counts_more_than_a_replay() {
    let request = follow(&[], 1 << 20, &[(STDERR, u64::MAX)]);
    let recent = Some(StartAt::Recent(1 << 20));
    assert_eq!(read(request), (recent, Some(StartAt::Offset(u64::MAX))));
}

#[test]
fn what_cannot_be_read_is_named() {
    for (request, flaw) in [
        (follow(&[0], 0, &[]), "streams[0] REQUIRED"),
        (follow(&[STDOUT, 3], 0, &[]), "streams[1] UNKNOWN_VALUE"),
        (follow(&[STDOUT; 1_001], 0, &[]), "streams TOO_MANY"),
        (follow(&[], -1, &[]), "replay_bytes OUT_OF_RANGE"),
        (follow(&[], (1 << 20) + 1, &[]), "replay_bytes OUT_OF_RANGE"),
        (follow(&[], 0, &[(0, 0)]), "resume[0].stream REQUIRED"),
        (
            follow(&[], 0, &[(STDOUT, 0), (STDOUT, 1)]),
            "resume[1].stream DUPLICATE",
        ),
        (follow(&[], 0, &[(STDOUT, 0); 3]), "resume TOO_MANY"),
        (
            follow(&[STDOUT], 0, &[(STDERR, 0)]),
            "resume[0].stream CONFLICT",
        ),
    ] {
        assert_eq!(flaws(|out| exec::follow(request, out)), [flaw]);
    }
}
