//! Messages over a real socket pair.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;

fn pair() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .unwrap()
}

fn buffer() -> Vec<u8> {
    vec![0; MAX_MESSAGE_BYTES]
}

#[test]
fn a_message_arrives_with_its_descriptors() {
    let (daemon, keeper) = pair();
    let (mut read, write) = std::io::pipe().unwrap();
    let request = Request {
        id: 7,
        call: Call::CloseStdin { stream: "a".into() },
    };
    send(&daemon, &request, &[write.as_fd()]).unwrap();
    drop(write);
    let (received, descriptors): (Request, _) = receive(&keeper, &mut buffer()).unwrap();
    assert_eq!(received, request);
    let [write] = <[_; 1]>::try_from(descriptors).unwrap();
    std::fs::File::from(write).write_all(b"through").unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
    let (daemon, keeper) = pair();
    let text = br#"{"id":1,"later":true,"call":{"list":{"more":[1]}}}"#;
    send_bytes(&daemon, text, &[]).unwrap();
    let (received, _): (Request, _) = receive(&keeper, &mut buffer()).unwrap();
    assert_eq!(received.call, Call::List { after: None });
}

#[test]
fn a_message_beyond_the_limit_is_refused_and_the_next_one_is_whole() {
    let (daemon, keeper) = pair();
    let large = vec![b' '; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(
        send_bytes(&daemon, &large, &[]),
        Err(WireError::TooLarge)
    ));
    let mut small = [0; 64];
    send_bytes(&daemon, &large[..65], &[]).unwrap();
    send_bytes(&daemon, b"{\"id\":1,\"call\":{\"upgrade\":{}}}", &[]).unwrap();
    assert!(matches!(
        receive::<Request>(&keeper, &mut small),
        Err(WireError::TooLarge)
    ));
    assert_eq!(receive::<Request>(&keeper, &mut small).unwrap().0.id, 1);
}

#[test]
fn what_is_no_message_an_empty_socket_and_a_closed_one_are_told_apart() {
    let (daemon, keeper) = pair();
    assert!(matches!(
        receive::<Request>(&keeper, &mut buffer()),
        Err(WireError::NotReady)
    ));
    send_bytes(&daemon, b"\xff{", &[]).unwrap();
    assert!(matches!(
        receive::<Request>(&keeper, &mut buffer()),
        Err(WireError::Malformed(_))
    ));
    drop(daemon);
    assert!(matches!(
        receive::<Request>(&keeper, &mut buffer()),
        Err(WireError::Closed)
    ));
}

#[test]
fn every_call_and_answer_survives_its_encoding() {
    let positions = Positions {
        stdout: 1,
        stderr: 2,
        ended: Some(End { truncated: true }),
    };
    let answers = [
        Answer::Opened { positions },
        Answer::Stdin {},
        Answer::Refused {
            reason: Refusal::TooMany,
            detail: String::new(),
        },
    ];
    for answer in answers {
        let message = Message::Reply { id: 3, answer };
        let text = serde_json::to_vec(&message).unwrap();
        assert_eq!(serde_json::from_slice::<Message>(&text).unwrap(), message);
    }
}

#[test]
fn what_only_an_init_needs_of_a_plan_is_left_out_of_others() {
    use super::launch::{Program, Propagation, Step, Text};
    let text = |text: &str| Text::new(text).unwrap();
    let bind = |cleared_attributes| Step::Bind {
        source: text("/a"),
        target: text("/b"),
        attributes: 0,
        all_attributes: 0,
        cleared_attributes,
        propagation: Propagation::Private,
    };
    let program = |reports| Program {
        candidates: vec![text("/bin/true")],
        args: vec![text("true")],
        env: Vec::new(),
        directory: text("/"),
        make_directory: false,
        reports,
    };
    // A keeper from before it refuses fields that it does not know.
    for (step, is_there) in [(bind(0), false), (bind(8), true)] {
        let json = serde_json::to_string(&step).unwrap();
        assert_eq!(json.contains("cleared"), is_there, "{json}");
        assert_eq!(serde_json::from_str::<Step>(&json).unwrap(), step);
    }
    for is_there in [false, true] {
        let json = serde_json::to_string(&program(is_there)).unwrap();
        assert_eq!(json.contains("reports"), is_there, "{json}");
        let read = serde_json::from_str::<Program>(&json).unwrap();
        assert_eq!(read, program(is_there));
    }
}

#[test]
fn a_socket_is_only_its_owners_and_works_below_a_long_path() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::TempDir::new().unwrap();
    let deep = directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let listener = listen(&deep).unwrap();
    let mode = std::fs::metadata(deep.join(SOCKET_NAME))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let _daemon = connect(&deep).unwrap();
    rustix::net::accept(&listener).unwrap();
    drop(listener);
    let refused = connect(&deep).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
