//! What comes over the socket is not trusted to make sense.

use std::os::fd::AsFd;

use wharf_keeper::protocol::{Answer, Call, Descriptors, Message, Refusal, send_bytes};

use crate::harness::{BOTH, Daemon, Keeper, STDOUT};

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn refused(daemon: &mut Daemon, call: Call) -> Refusal {
    refusal(daemon.call(call, &[]).0)
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let keeper = Keeper::start();
    let mut healthy = keeper.connect();
    let packets: [&[u8]; 6] = [b"\0", b"{", b"[]", b"{\"id\":-1}", b"\xff\xfe\xfd", b"null"];
    for packet in packets {
        let mut daemon = keeper.connect();
        let (extra, _) = std::io::pipe().unwrap();
        send_bytes(&daemon.socket, packet, &[extra.as_fd()]).unwrap();
        daemon.is_dropped();
    }
    let mut seed = 88_172_645_463_325_252_u64;
    for length in 1..200_usize {
        let mut daemon = keeper.connect();
        let mut packet = vec![0; length];
        for byte in &mut packet {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = seed.to_le_bytes()[3];
        }
        send_bytes(&daemon.socket, &packet, &[]).unwrap();
        daemon.is_dropped();
    }
    assert!(healthy.list().is_empty());
}

#[test]
fn a_request_that_is_not_understood_is_answered() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let text = br#"{"id":77,"call":{"juggle":{"balls":3}}}"#;
    send_bytes(&daemon.socket, text, &[]).unwrap();
    match daemon.receive().unwrap().0 {
        Message::Reply { id: 77, answer } => {
            assert_eq!(refusal(answer), Refusal::Unintelligible);
        }
        other => panic!("{other:?}"),
    }
    assert!(daemon.list().is_empty());
}

#[test]
fn nothing_is_done_for_who_has_not_said_hello_or_speaks_another_version() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect_silently();
    assert_eq!(
        refused(&mut daemon, Call::List { after: None }),
        Refusal::HelloFirst
    );
    let (answer, _) = daemon.call(Call::Hello { version: 99 }, &[]);
    assert!(matches!(answer, Answer::Hello { version: 1, .. }));
    assert_eq!(
        refused(&mut daemon, Call::List { after: None }),
        Refusal::Version
    );
}

#[test]
fn what_cannot_be_opened_is_refused_with_its_reason() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let fifo = keeper.fifo("out");
    let mut try_open = |change: &dyn Fn(&mut wharf_keeper::protocol::Open)| {
        let mut open = keeper.open("a", STDOUT);
        change(&mut open);
        refusal(daemon.call(Call::Open(open), &[fifo.fd()]).0)
    };
    assert_eq!(
        try_open(&|open| open.stream = String::new()),
        Refusal::Invalid
    );
    assert_eq!(
        try_open(&|open| open.stream = "a".repeat(129)),
        Refusal::Invalid
    );
    assert_eq!(
        try_open(&|open| open.directory = "relative".into()),
        Refusal::Invalid
    );
    assert_eq!(try_open(&|open| open.descriptors = BOTH), Refusal::System);
    assert_eq!(
        try_open(&|open| open.descriptors = Descriptors::default()),
        Refusal::Invalid
    );
    assert_eq!(
        try_open(&|open| open.directory = "/dev/null/x".into()),
        Refusal::Storage
    );
    let file = tempfile::tempfile().unwrap();
    let (answer, _) = daemon.call(Call::Open(keeper.open("a", STDOUT)), &[file.as_fd()]);
    assert_eq!(refusal(answer), Refusal::Invalid, "a file is no pipe");
    daemon.opens(keeper.open("a", STDOUT), &[fifo.fd()]);
    let (answer, _) = daemon.call(Call::Open(keeper.open("a", STDOUT)), &[fifo.fd()]);
    assert_eq!(refusal(answer), Refusal::Exists);
}

#[test]
fn a_stream_that_is_not_there_is_unknown() {
    let keeper = Keeper::start();
    let mut daemon = keeper.connect();
    let stream = || "nobody".to_owned();
    let finish = Call::Finish {
        stream: stream(),
        within_ms: 1,
    };
    daemon.window("nobody", Some(1));
    assert_eq!(refused(&mut daemon, finish), Refusal::Unknown);
    assert_eq!(
        refused(&mut daemon, Call::TakeStdin { stream: stream() }),
        Refusal::Unknown
    );
    assert_eq!(
        refused(&mut daemon, Call::CloseStdin { stream: stream() }),
        Refusal::Unknown
    );
}
