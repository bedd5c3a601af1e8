//! The input of main processes: open as long as they run and nobody has closed it, whoever is there.

use tonic::Code;
use wharf_api::ErrorReason;
use wharf_api::v1::{self, CreateContainerRequest, write_stdin_request::Target};

use crate::harness::proxy::Fault;
use crate::harness::streams::Joined;
use crate::harness::{Client, containerd_only, scenario, spec};

/// Runs `cat` with its input open and nobody attached.
async fn run_cat(client: &Client) {
    let request = CreateContainerRequest {
        name: "cat".to_owned(),
        spec: Some(v1::ContainerSpec {
            stdin_open: true,
            ..spec::running(&["cat"])
        }),
        start: true,
        ..Default::default()
    };
    client.create_with(request).await.unwrap();
}

async fn write(client: &Client, data: &'static str, close: bool) {
    let request = v1::WriteStdinRequest {
        target: Some(Target::Container("cat".to_owned())),
        data: data.into(),
        close,
        ..Default::default()
    };
    client.write_stdin(request).await.unwrap();
}

/// From the first byte on.
async fn follow(client: &Client) -> Joined {
    let request = v1::FollowContainerRequest {
        container: "cat".to_owned(),
        resume: vec![v1::StreamOffset {
            stream: v1::OutputStream::Stdout.into(),
            offset: 0,
        }],
        ..Default::default()
    };
    client.follow_container(request).await.unwrap()
}

#[test]
fn a_process_that_was_started_alone_reads_what_whoever_attaches_sends() {
    scenario(async |world| {
        let client = world.up().await;
        run_cat(&client).await;
        let options = v1::AttachOptions {
            stdin: true,
            ..Default::default()
        };
        let mut joined = client.attach_container("cat", options).await.unwrap();
        joined.write("one\n").await;
        let first = joined.until(|whole| whole.out() == "one\n").await.unwrap();
        assert_eq!(first.err(), "");
        joined.half_close();
        while let Some(next) = joined.next().await.unwrap() {
            let v1::process_output::Kind::Exited(exit) = next else {
                panic!("{next:?}");
            };
            assert_eq!(exit.code, 0);
        }
    });
}

#[test]
fn input_by_calls_alone_goes_on_over_a_restart_of_the_server() {
    scenario(async |world| {
        let client = world.up().await;
        run_cat(&client).await;
        write(&client, "one\n", false).await;
        let mut before = follow(&client).await;
        before.until(|whole| whole.out() == "one\n").await.unwrap();
        world.wharfd.kill();
        let client = world.wharfd.start().await;
        write(&client, "two\n", false).await;
        let after = follow(&client).await;
        write(&client, "three\n", true).await;
        let whole = after.whole().await.unwrap();
        assert_eq!(whole.out(), "one\ntwo\nthree\n");
        assert_eq!(whole.exit.code, 0);
    });
}

#[test]
fn a_repeat_of_the_write_that_closed_the_input_has_its_answer_and_writes_nothing() {
    scenario(async |world| {
        let client = world.up().await;
        run_cat(&client).await;
        let last = v1::WriteStdinRequest {
            target: Some(Target::Container("cat".to_owned())),
            data: "once\n".into(),
            close: true,
            idempotency_key: "the-last-write".to_owned(),
            ..Default::default()
        };
        let output = follow(&client).await;
        client.write_stdin(last.clone()).await.unwrap();
        client.write_stdin(last.clone()).await.unwrap();
        let whole = output.whole().await.unwrap();
        assert_eq!(whole.out(), "once\n");
        assert_eq!(whole.exit.code, 0);
        // Nothing runs any more.
        client.write_stdin(last).await.unwrap();
    });
}

#[test]
fn an_end_of_input_that_containerd_did_not_hear_of_can_be_sent_again() {
    const CLOSE_IO: &str = "/containerd.services.tasks.v1.Tasks/CloseIO";
    containerd_only("the call is one of containerd", async |world| {
        let proxy = world.behind_a_proxy();
        let client = world.up().await;
        run_cat(&client).await;
        let fault = Fault::Status(Code::Unavailable, "told to");
        proxy.fail_times(CLOSE_IO, fault, 1);
        let last = v1::WriteStdinRequest {
            target: Some(Target::Container("cat".to_owned())),
            data: "last\n".into(),
            close: true,
            ..Default::default()
        };
        let refusal = client.write_stdin(last).await.unwrap_err();
        assert!(refusal.is(ErrorReason::BackendUnavailable), "{refusal:?}");
        write(&client, "", true).await;
        assert_eq!(client.exit_of("cat", 1).await.unwrap().code, 0);
    });
}
