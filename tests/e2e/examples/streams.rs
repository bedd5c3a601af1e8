//! The examples about processes and logs. Each of those about execs runs the same program.

use super::{example, grpcurl_script, host, must_say, printed, python_example, python_stubs};
use crate::harness::{Client, World, scenario, spec};

/// Writes some lines and ends.
const WRITER: &[&str] = &["sh", "-c", "echo one; echo two; exit 3"];

/// A container that has run to its end.
async fn with_writer(world: &mut World) -> Client {
    let client = world.up().await;
    client.run("writer", WRITER).await.unwrap();
    client.exit_of("writer", 1).await.unwrap();
    client
}

/// A container that runs.
async fn with_box(world: &mut World) {
    let client = world.up().await;
    client.run("box", spec::PATIENT).await.unwrap();
}

#[test]
fn exec_feeds_a_process_and_reads_its_output_and_its_exit() {
    scenario(async |world| {
        with_box(world).await;
        let text = printed(example(world, "exec", &["box"])).await;
        must_say(&text, &["stdout: 1000\n", "stderr: done\n"]);
        assert!(text.ends_with("REASON_EXITED 7\n"), "{text}");
    });
}

#[test]
fn exec_in_python_feeds_a_process_and_reads_its_output_and_its_exit() {
    scenario(async |world| {
        with_box(world).await;
        let stubs = python_stubs(world).await;
        let text = printed(python_example(&stubs, "exec.py", &["box", &host(world)])).await;
        must_say(
            &text,
            &[
                "OUTPUT_STREAM_STDOUT 0 1000\n",
                "OUTPUT_STREAM_STDERR 0 done\n",
            ],
        );
        assert!(text.ends_with("exit code 7\n"), "{text}");
    });
}

#[test]
fn logs_goes_on_where_it_stopped() {
    scenario(async |world| {
        let client = with_writer(world).await;
        let first = printed(example(world, "logs", &["writer", "cursor"])).await;
        let whole = "-- a run began\none\ntwo\n-- it ended with 3\n";
        assert_eq!(first, whole);
        client.start("writer").await.unwrap();
        client.exit_of("writer", 2).await.unwrap();
        // Only what came after the cursor that the first one saved.
        let second = printed(example(world, "logs", &["writer", "cursor"])).await;
        assert_eq!(second, whole);
    });
}

#[test]
fn logs_in_python_goes_on_where_it_stopped() {
    scenario(async |world| {
        let client = with_writer(world).await;
        let stubs = python_stubs(world).await;
        let host = host(world);
        let first = printed(python_example(&stubs, "logs.py", &["writer", &host])).await;
        let (text, cursor) = first.trim_end().rsplit_once("\ncursor ").unwrap();
        assert_eq!(text, "one\ntwo\n-- exit code 3");
        client.start("writer").await.unwrap();
        client.exit_of("writer", 2).await.unwrap();
        let arguments = ["writer", &host, cursor];
        let second = printed(python_example(&stubs, "logs.py", &arguments)).await;
        assert!(
            second.starts_with("one\ntwo\n-- exit code 3\ncursor "),
            "{second}"
        );
    });
}

#[test]
fn streams_needs_nothing_but_grpcurl_and_jq() {
    scenario(async |world| {
        let client = world.up().await;
        let script = "echo logged; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
        client.run("box", &["sh", "-c", script]).await.unwrap();
        client.until_it_minds_signals("box").await;
        let text = printed(grpcurl_script(world, "streams.sh", "box")).await;
        // Both lines come in one chunk or in two.
        must_say(
            &text,
            &[
                "OUTPUT_STREAM_STDOUT hello\n",
                "world\n",
                "OUTPUT_STREAM_STDERR done\n",
                "exit code 7\n",
                "# the log so far\nlogged\n",
            ],
        );
    });
}
