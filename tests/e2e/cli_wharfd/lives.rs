//! One server at a place, and its end.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use wharf_api::v1;
use wharf_api::v1::container::State;
use wharf_api::v1::import_image_request::Request as Message;

use super::{Alone, LONGEST, alone, flags_below, refused, wharfd};
use crate::harness::wait::so;
use crate::harness::{World, scenario, spec, until};

#[test]
fn a_second_server_is_refused_and_the_first_goes_on() {
    scenario(async |world| {
        let place = alone(world);
        let flags = flags_below(&place);
        let first = || wharfd(flags.iter().map(String::as_str));
        let socket = place.join("run/wharf.sock");
        let mut server = Alone::start(first(), &place.join("log"));
        let client = server.answers(&socket).await;

        let state = place.join("state").display().to_string();
        let said = refused(first(), 1).await;
        assert!(
            said.contains(&state) && said.contains("in use by another server"),
            "{said}"
        );
        let elsewhere = place.join("elsewhere").display().to_string();
        // Without `--state-dir`, which is the first of the flags.
        let mut command = wharfd(flags[2..].iter().map(String::as_str));
        command.env("WHARF_STATE_DIR", elsewhere);
        let said = refused(command, 1).await;
        let socket = socket.display().to_string();
        assert!(
            said.contains(&socket) && said.contains("in use by another server"),
            "{said}"
        );
        client.info().await.unwrap();
        server.stop().await;
    });
}

#[test]
fn a_socket_that_a_dead_server_left_is_taken_over_and_a_file_is_not() {
    scenario(async |world| {
        let place = alone(world);
        let flags = flags_below(&place);
        let command = || wharfd(flags.iter().map(String::as_str));
        let socket = place.join("run/wharf.sock");
        let mut server = Alone::start(command(), &place.join("log"));
        server.answers(&socket).await;
        // SIGKILL: the socket's file stays.
        drop(server);
        assert!(socket.exists());
        let mut server = Alone::start(command(), &place.join("log"));
        server.answers(&socket).await;
        server.stop().await;

        fs::write(&socket, "precious").unwrap();
        let said = refused(command(), 1).await;
        assert!(
            said.ends_with("wharf.sock exists and is not a socket"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
        fs::remove_file(&socket).unwrap();
        // Somebody else's, who listens.
        let _other = UnixListener::bind(&socket).unwrap();
        let said = refused(command(), 1).await;
        assert!(said.contains("in use"), "{said}");
    });
}

#[test]
fn a_place_that_cannot_be_used_is_told_in_one_line() {
    scenario(async |world| {
        let place = alone(world);
        fs::write(place.join("state"), "a file").unwrap();
        let flags = flags_below(&place);
        let said = refused(wharfd(flags.iter().map(String::as_str)), 1).await;
        assert!(
            said.contains(&place.join("state").display().to_string()),
            "{said}"
        );
        let line = ["--listen", "unix:///proc/wharf/x.sock"];
        let flags = flags_below(&place.join("other"));
        let said = refused(wharfd(flags.iter().map(String::as_str).chain(line)), 1).await;
        assert!(said.contains("unix:///proc/wharf/x.sock"), "{said}");
    });
}

#[test]
fn the_first_signal_ends_the_server_cleanly_and_leaves_containers_running() {
    scenario(async |world| {
        let client = world.up().await;
        let before = client.run("web", spec::PATIENT).await.unwrap();
        let mut watch = client
            .watch(v1::WatchEventsRequest::default())
            .await
            .unwrap();
        let begun = Instant::now();
        let status = world.wharfd.stop().await;
        assert_eq!(status.code(), Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
        // Its last word may still be an event.
        let ended = loop {
            match watch.event_or_break().await {
                Ok(event) => assert!(event.is_some(), "the watch ends without a reason"),
                Err(ended) => break ended,
            }
        };
        assert!(ended.is(wharf_api::ErrorReason::ServerDraining), "{ended}");
        assert!(
            fs::exists(format!("/proc/{}", before.pid)).unwrap(),
            "it has ended, too"
        );
        assert!(!world.wharfd.socket().exists());

        let client = world.wharfd.start().await;
        let after = client.get("web").await.unwrap();
        assert_eq!(
            (after.state(), after.run, after.pid),
            (State::Running, 1, before.pid)
        );
    });
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    scenario(async |world| {
        world.configure(|options| {
            options.arguments = ["--drain-timeout", "3600"].map(str::to_owned).to_vec();
        });
        let client = world.up().await;
        for first in [Signal::TERM, Signal::INT] {
            let (mut chunks, upload) = mpsc::channel(4);
            chunks_of_an_upload(&mut chunks).await;
            let client = client.clone();
            let mut uploading = JoinSet::new();
            uploading.spawn(async move {
                let request = tonic::Request::new(ReceiverStream::new(upload));
                client.images().import_image(request).await
            });
            // The server has begun to keep it, so it waits for the rest.
            until("the upload is under way", LONGEST, async || {
                so(spooled(world) == 1, || "nothing is kept".to_owned())
            })
            .await;
            let stops = |world: &World| world.wharfd.log().matches("\"stopping\"").count();
            let before = stops(world);
            let pid = Pid::from_raw(world.wharfd.pid().cast_signed()).unwrap();
            kill_process(pid, first).unwrap();
            until("the server is stopping", LONGEST, async || {
                so(stops(world) > before, || "it is not".to_owned())
            })
            .await;
            assert!(world.wharfd.is_running());
            let begun = Instant::now();
            assert_eq!(world.wharfd.stop().await.code(), Some(0));
            assert!(
                begun.elapsed() < Duration::from_secs(3),
                "{:?}",
                begun.elapsed()
            );
            let uploaded = uploading.join_next().await.unwrap().unwrap();
            assert!(uploaded.is_err());
            // What was cut off is not kept by the next server.
            world.wharfd.start().await;
            assert_eq!(spooled(world), 0);
        }
    });
}

async fn chunks_of_an_upload(chunks: &mut mpsc::Sender<v1::ImportImageRequest>) {
    let start = Message::Start(v1::ImportImageStart::default());
    let data = Message::Data(vec![0; 1 << 16].into());
    for message in [start, data] {
        let request = v1::ImportImageRequest {
            request: Some(message),
        };
        chunks.send(request).await.unwrap();
    }
}

/// Uploads that the server keeps.
fn spooled(world: &World) -> usize {
    let spool = world.wharfd.state_dir().join("spool");
    fs::read_dir(spool).map_or(0, Iterator::count)
}
