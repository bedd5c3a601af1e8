//! Calls about execs and the streams of processes that are refused.

use futures_util::future::join_all;
use wharf_api::v1::{self, process_input::Kind as Input, write_stdin_request::Target};

use crate::harness::streams::{exec, exec_with_stdin, exec_with_terminal};
use crate::harness::{Client, Refusal, spec};

/// The most execs of a container that have not ended.
const MAX_LIVE: usize = 1_024;
/// Calls at once.
const AT_ONCE: usize = 32;

/// A container that runs, for the execs of one case.
async fn running(client: &Client, name: &str) {
    client.run(name, spec::PATIENT).await.unwrap();
}

async fn create(client: &Client, container: &str, spec: v1::ExecSpec) -> Result<String, Refusal> {
    let request = v1::CreateExecRequest {
        container: container.to_owned(),
        spec: Some(spec),
        ..Default::default()
    };
    Ok(client.create_exec(request).await?.exec.unwrap().id)
}

/// An exec that runs, in a container of its own.
async fn started(client: &Client, container: &str, spec: v1::ExecSpec) -> String {
    running(client, container).await;
    let id = create(client, container, spec).await.unwrap();
    let exec_id = id.clone();
    let request = v1::StartExecRequest { exec_id };
    assert!(client.start_exec(request).await.unwrap().changed);
    id
}

pub async fn not_found(client: &Client) -> Refusal {
    let request = v1::GetExecRequest {
        exec_id: "0".repeat(32),
    };
    client.get_exec(request).await.unwrap_err()
}

pub async fn already_started(client: &Client) -> Refusal {
    let exec_id = started(client, "started", exec(&["sleep", "3600"])).await;
    let request = v1::DeleteExecRequest {
        exec_id: exec_id.clone(),
        ..Default::default()
    };
    let refusal = client.delete_exec(request).await.unwrap_err();
    assert_eq!(refusal.metadata["execId"], exec_id);
    refusal
}

pub async fn not_running(client: &Client) -> Refusal {
    let exec_id = started(client, "over", exec(&["true"])).await;
    assert_eq!(client.exec_exit(&exec_id).await.unwrap().code, 0);
    let request = v1::SignalExecRequest {
        exec_id,
        signal: "HUP".to_owned(),
        ..Default::default()
    };
    client.signal_exec(request).await.unwrap_err()
}

/// By a call about an exec, by one about a container, and by a message to a stream.
pub async fn terminal_not_allocated(client: &Client) -> Refusal {
    let size = v1::TerminalSize {
        rows: 20,
        columns: 20,
    };
    let exec_id = started(client, "no-terminal", exec(&["sleep", "3600"])).await;
    let joined = client.attach_exec(&exec_id, v1::AttachOptions::default());
    let joined = joined.await.unwrap();
    joined.send(Input::Resize(size)).await;
    let in_stream = joined.whole().await.unwrap_err();
    let request = v1::ResizeContainerRequest {
        container: "no-terminal".to_owned(),
        size: Some(size),
    };
    let of_main = client.resize_container(request).await.unwrap_err();
    let request = v1::ResizeExecRequest {
        exec_id,
        size: Some(size),
    };
    let refusal = client.resize_exec(request).await.unwrap_err();
    for other in [in_stream, of_main] {
        assert_eq!(other.reason(), refusal.reason());
    }
    refusal
}

/// Not open from the beginning, as a stream and as a call hear of it; or closed since.
pub async fn stdin_not_open(client: &Client) -> Refusal {
    let write = |exec_id: &str, close| v1::WriteStdinRequest {
        target: Some(Target::ExecId(exec_id.to_owned())),
        data: "late".into(),
        close,
        ..Default::default()
    };
    let never = started(client, "no-stdin", exec(&["sleep", "3600"])).await;
    let with_stdin = v1::AttachOptions {
        stdin: true,
        ..Default::default()
    };
    let in_stream = client.attach_exec(&never, with_stdin).await.err().unwrap();
    let unary = client.write_stdin(write(&never, false)).await.unwrap_err();

    let spec = exec_with_stdin(&["sh", "-c", "cat; sleep 3600"]);
    let closed = started(client, "closed-stdin", spec).await;
    client.write_stdin(write(&closed, true)).await.unwrap();
    let refusal = client.write_stdin(write(&closed, false)).await.unwrap_err();
    for other in [in_stream, unary] {
        assert_eq!(other.reason(), refusal.reason());
    }
    refusal
}

/// Execs that were never started count too. Deleted, they make room again.
pub async fn too_many(client: &Client) -> Refusal {
    running(client, "full").await;
    let mut refused = None;
    let mut ids = Vec::new();
    while refused.is_none() {
        let spec = || exec_with_terminal(&["true"], 24, 80);
        let some = (0..AT_ONCE).map(|_| create(client, "full", spec()));
        for created in join_all(some).await {
            match created {
                Ok(id) => ids.push(id),
                Err(refusal) => refused = Some(refusal),
            }
        }
    }
    assert_eq!(ids.len(), MAX_LIVE);
    let request = v1::DeleteExecRequest {
        exec_id: ids.pop().unwrap(),
        ..Default::default()
    };
    assert!(client.delete_exec(request).await.unwrap().changed);
    create(client, "full", exec(&["true"])).await.unwrap();
    let refusal = refused.expect("the loop ends with one");
    assert_eq!(refusal.metadata["limit"], MAX_LIVE.to_string());
    refusal
}
