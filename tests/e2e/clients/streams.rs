//! Processes, their input and its end, and their output.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Grpcurl, python};
use crate::harness::{scenario, spec};

const EXECS: &str = "wharf.v1.ExecService";

/// Program, input in pieces, output: each ends only because its input does.
fn fed() -> [(Value, &'static [&'static str], &'static str); 4] {
    [
        (json!(["cat"]), &["hello\n", "world\n"], "hello\nworld\n"),
        (json!(["cat"]), &[], ""),
        (json!(["wc", "-c"]), &["123", "45"], "5\n"),
        (json!(["sh", "-c", "cat; echo done"]), &["x\n"], "x\ndone\n"),
    ]
}

fn to_base64(text: &str) -> String {
    BASE64.encode(text)
}

/// What a process wrote to standard output, and its exit code, from the messages of its stream.
fn outcome(messages: &[Value]) -> (String, u64) {
    let (mut stdout, mut code) = (Vec::new(), None);
    assert!(!messages[0]["attached"].is_null(), "{messages:?}");
    for message in &messages[1..] {
        assert_eq!(code, None, "exited is the last");
        let output = &message["output"];
        if let Some(data) = output["output"]["data"].as_str() {
            assert_eq!(output["output"]["stream"], "OUTPUT_STREAM_STDOUT");
            stdout.extend(BASE64.decode(data).unwrap());
        } else if !output["exited"].is_null() {
            // Proto's JSON leaves a 0 out.
            code = Some(output["exited"]["code"].as_u64().unwrap_or(0));
        } else {
            assert!(!output["started"].is_null(), "{message}");
        }
    }
    let stdout = String::from_utf8(stdout).unwrap();
    (stdout, code.expect("the process has exited"))
}

#[test]
fn a_python_program_feeds_processes_by_streams_and_by_calls_alone() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        python(world, "streams.py", "box").await;
    });
}

#[test]
fn grpcurl_feeds_processes_whose_input_ends_with_its_own() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let grpcurl = Grpcurl(world);
        for (args, input, output) in fed() {
            let start = json!({"start": {
                "container": "box",
                "spec": {"process": {"args": args}, "stdinOpen": true},
                "attach": {"stdin": true},
            }});
            let mut requests = vec![start];
            let pieces = input.iter();
            requests.extend(pieces.map(|piece| json!({"input": {"stdin": to_base64(piece)}})));
            let messages = grpcurl.stream(&format!("{EXECS}/RunExec"), &requests).await;
            assert_eq!(outcome(&messages), (output.to_owned(), 0), "{args}");
        }
    });
}

#[test]
fn grpcurl_feeds_processes_by_calls_alone() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let grpcurl = Grpcurl(world);
        for (args, input, output) in fed() {
            let spec = json!({"process": {"args": args}, "stdinOpen": true});
            let create = json!({"container": "box", "spec": spec});
            let created = grpcurl.call(&format!("{EXECS}/CreateExec"), create).await;
            let id = &created["exec"]["id"];
            let start = format!("{EXECS}/StartExec");
            grpcurl.call(&start, json!({"execId": id})).await;
            let write = format!("{EXECS}/WriteStdin");
            for piece in input {
                let request = json!({"execId": id, "data": to_base64(piece)});
                grpcurl.call(&write, request).await;
            }
            let close = json!({"execId": id, "close": true});
            grpcurl.call(&write, close).await;
            // From the beginning, whether it is still at it or over.
            let from = json!([{"stream": "OUTPUT_STREAM_STDOUT", "offset": "0"}]);
            let follow = json!({"execId": id, "resume": from});
            let messages = grpcurl
                .stream(&format!("{EXECS}/FollowExec"), &[follow])
                .await;
            assert_eq!(outcome(&messages), (output.to_owned(), 0), "{args}");
        }
    });
}
