//! Callers joined to main processes, and what holds for execs beyond their usual life.

use std::time::{Duration, Instant};

use wharf_api::ErrorReason;
use wharf_api::v1::exit_status::Reason;
use wharf_api::v1::{
    self, AttachOptions, ContainerSpec, CreateContainerRequest, Resources, TerminalSize,
    write_stdin_request::Target,
};

use crate::harness::streams::{exec, exec_with_stdin};
use crate::harness::{Client, scenario, spec};

fn with_stdin(args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        stdin_open: true,
        ..spec::running(args)
    }
}

fn with_terminal(args: &[&str], rows: u32, columns: u32) -> ContainerSpec {
    let mut spec = with_stdin(args);
    if let Some(process) = &mut spec.process {
        process.terminal = Some(TerminalSize { rows, columns });
    }
    spec
}

async fn create(client: &Client, spec: ContainerSpec) {
    let request = CreateContainerRequest {
        name: "box".to_owned(),
        spec: Some(spec),
        ..Default::default()
    };
    client.create_container(request).await.unwrap();
}

fn sending() -> AttachOptions {
    AttachOptions {
        stdin: true,
        ..Default::default()
    }
}

#[test]
fn who_attaches_before_the_start_gets_everything_and_can_send_input() {
    scenario(async |world| {
        let client = world.up().await;
        create(
            &client,
            with_stdin(&["sh", "-c", "echo ready; cat; exit 3"]),
        )
        .await;
        let mut joined = client.attach_container("box", sending()).await.unwrap();
        let follow = v1::FollowContainerRequest {
            container: "box".to_owned(),
            ..Default::default()
        };
        let follower = client.follow_container(follow).await.unwrap();
        client.start("box").await.unwrap();
        joined.write("hello\n").await;
        joined.half_close();
        let whole = joined.whole().await.unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("ready\nhello\n", 3));
        assert_eq!(follower.whole().await.unwrap().out(), "ready\nhello\n");
    });
}

#[test]
fn a_container_that_was_started_by_itself_can_be_joined_left_and_joined_again_also_after_a_restart()
{
    scenario(async |world| {
        let client = world.up().await;
        create(&client, with_stdin(&["cat"])).await;
        client.start("box").await.unwrap();
        let mut first = client.attach_container("box", sending()).await.unwrap();
        first.write("one\n").await;
        first.until(|w| w.out() == "one\n").await.unwrap();
        first
            .send(v1::process_input::Kind::Detach(v1::Detach {}))
            .await;
        let last = first.next().await.unwrap();
        assert!(matches!(last, Some(v1::process_output::Kind::Detached(_))));

        world.wharfd.kill();
        let client = world.wharfd.start().await;
        let replay = AttachOptions {
            replay_bytes: 4,
            ..sending()
        };
        let mut second = client.attach_container("box", replay).await.unwrap();
        second.started().await.unwrap();
        let replayed = second.next().await.unwrap();
        match replayed {
            Some(v1::process_output::Kind::Output(chunk)) => assert_eq!(&chunk.data[..], b"one\n"),
            other => panic!("{other:?}"),
        }
        let request = |data: &'static str, close| v1::WriteStdinRequest {
            target: Some(Target::Container("box".to_owned())),
            data: data.into(),
            close,
            ..Default::default()
        };
        client.write_stdin(request("two\n", false)).await.unwrap();
        client.write_stdin(request("", true)).await.unwrap();
        let exit = client.exit_of("box", 1).await.unwrap();
        assert_eq!(exit.code, 0);
        let refusal = client
            .write_stdin(request("late", false))
            .await
            .unwrap_err();
        assert!(
            [ErrorReason::ContainerNotRunning, ErrorReason::StdinNotOpen]
                .contains(&refusal.reason()),
            "{refusal:?}"
        );
    });
}

#[test]
fn a_containers_terminal_takes_sizes_before_and_after_its_start() {
    scenario(async |world| {
        let client = world.up().await;
        let script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done";
        create(&client, with_terminal(&["sh", "-c", script], 10, 20)).await;
        let resize = |rows, columns| v1::ResizeContainerRequest {
            container: "box".to_owned(),
            size: Some(TerminalSize { rows, columns }),
        };
        let early = client.resize_container(resize(1, 1)).await.unwrap_err();
        assert!(early.is(ErrorReason::ContainerNotRunning));
        let mut joined = client.attach_container("box", sending()).await.unwrap();
        let size = TerminalSize {
            rows: 41,
            columns: 82,
        };
        joined.send(v1::process_input::Kind::Resize(size)).await;
        // The size is kept in the record, which is where the start finds it.
        crate::harness::until("the size is kept", Duration::from_secs(60), async || {
            let etag = client.get("box").await.unwrap().etag;
            crate::harness::wait::so(etag != "1" && etag != "2", || etag.clone())
        })
        .await;
        client.start("box").await.unwrap();
        let first = joined.until(|w| w.stdout.ends_with(b"\n")).await.unwrap();
        assert_eq!(first.out(), "41 82\r\n");
        client.resize_container(resize(50, 100)).await.unwrap();
        let mut rest = Vec::new();
        while let Some(next) = joined.next().await.unwrap() {
            if let v1::process_output::Kind::Output(chunk) = next {
                rest.extend_from_slice(&chunk.data);
            }
        }
        assert_eq!(String::from_utf8_lossy(&rest), "50 100\r\n");
    });
}

#[test]
fn reading_stops_five_seconds_after_the_exit_if_a_descendant_holds_the_output() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let script = "sleep 60 & echo done; exit 4";
        let since = Instant::now();
        let whole = client
            .exec_whole("box", &["sh", "-c", script])
            .await
            .unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("done\n", 4));
        assert!(whole.exit.output_truncated);
        let took = since.elapsed();
        assert!(took >= Duration::from_secs(5), "it took {took:?}");
    });
}

#[test]
fn a_signal_overtakes_input_that_the_process_does_not_read() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let spec = exec_with_stdin(&[
            "sh",
            "-c",
            "trap 'exit 6' USR1; echo ready; while :; do sleep 0.02; done",
        ]);
        let mut joined = client.run_exec("box", spec).await.unwrap();
        joined.until(|w| w.out() == "ready\n").await.unwrap();
        // More than its pipes hold.
        joined.write(vec![b'x'; 384 << 10]).await;
        let signal = v1::process_input::Kind::Signal("USR1".to_owned());
        joined.send(signal).await;
        assert_eq!(joined.whole().await.unwrap().exit.code, 6);
    });
}

#[test]
fn an_exec_that_eats_the_containers_memory_is_told_to_be_killed_for_it() {
    scenario(async |world| {
        let client = world.up().await;
        run_small(&client, spec::PATIENT).await;
        // Should the killer go on after it, its children are to be next, not the main process.
        let hog = "echo 1000 > /proc/self/oom_score_adj || exit 1; \
            x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo never";
        // The killer may choose another process than the shell itself: that one is then none.
        let mut exits = Vec::new();
        for _ in 0..5 {
            let whole = client.exec_whole("box", &["sh", "-c", hog]).await.unwrap();
            assert_ne!(whole.out(), "never\n");
            exits.push(whole.exit.reason());
        }
        assert!(exits.contains(&Reason::OomKilled), "{exits:?}");
        // One that is killed by somebody is not.
        let killed = client.exec_whole("box", &["sh", "-c", "kill -9 $$"]).await;
        assert_eq!(killed.unwrap().exit.reason(), Reason::Signaled);
    });
}

/// With little memory, and the main process that is given.
async fn run_small(client: &Client, args: &[&str]) {
    let small = ContainerSpec {
        resources: Some(Resources {
            memory_limit_bytes: Some(32 << 20),
            ..Default::default()
        }),
        ..spec::running(args)
    };
    create(client, small).await;
    client.start("box").await.unwrap();
}

#[test]
fn an_exec_that_dies_with_a_main_process_out_of_memory_is_not_told_to_be_out_of_memory() {
    scenario(async |world| {
        let client = world.up().await;
        let hog = "while [ ! -e /go ]; do sleep 0.05; done; \
            exec dd if=/dev/zero of=/dev/null bs=256M count=1";
        run_small(&client, &["sh", "-c", hog]).await;
        let args = ["sh", "-c", "touch /go; exec sleep 3600"];
        let exit = client.exec_whole("box", &args).await.unwrap().exit;
        assert_eq!((exit.reason(), exit.code), (Reason::Signaled, 137));
        let exit = client.exit_of("box", 1).await.unwrap();
        assert_eq!(exit.reason(), Reason::OomKilled);
    });
}

#[test]
fn a_new_server_does_not_take_an_old_kill_of_the_oom_killer_for_a_later_end_of_an_exec() {
    scenario(async |world| {
        let client = world.up().await;
        run_small(&client, spec::PATIENT).await;
        let hog = "echo 1000 > /proc/self/oom_score_adj || exit 1; \
            exec dd if=/dev/zero of=/dev/null bs=256M count=1";
        let whole = client.exec_whole("box", &["sh", "-c", hog]).await.unwrap();
        assert_eq!(whole.exit.reason(), Reason::OomKilled);
        let wait = "while [ ! -e /go ]; do sleep 0.05; done; kill -9 $$";
        let mut waiting = client
            .run_exec("box", exec(&["sh", "-c", wait]))
            .await
            .unwrap();
        waiting.started().await.unwrap();
        let id = waiting.exec_id().to_owned();

        world.wharfd.kill();
        let client = world.wharfd.start().await;
        let touched = client.exec_whole("box", &["touch", "/go"]).await.unwrap();
        assert_eq!(touched.exit.code, 0);
        let exit = client.exec_exit(&id).await.unwrap();
        assert_eq!((exit.reason(), exit.code), (Reason::Signaled, 137));
    });
}

#[test]
fn execs_are_listed_by_page_in_order_of_their_creation() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut made = Vec::new();
        for _ in 0..5 {
            let request = v1::CreateExecRequest {
                container: "box".to_owned(),
                spec: Some(exec(&["true"])),
                ..Default::default()
            };
            made.push(client.create_exec(request).await.unwrap().exec.unwrap().id);
        }
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = v1::ListExecsRequest {
                container: "box".to_owned(),
                page_size: 2,
                page_token: token,
            };
            let page = client.list_execs(page).await.unwrap();
            listed.extend(page.execs.into_iter().map(|exec| exec.id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, made);
    });
}
