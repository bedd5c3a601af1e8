//! `ExecService`, and the calls that join the streams of main processes: what is refused before the engine
//! has anything to do.

use futures_util::stream;
use tonic::{Code, Status};
use wharf_api::v1;
use wharf_api::v1::exec_service_client::ExecServiceClient;

use super::{Api, Channel, refusal};

const NO_SUCH_EXEC: &str = "00000000000000000000000000000000";

fn execs(api: &Api) -> ExecServiceClient<Channel> {
    ExecServiceClient::new(api.channel())
}

fn invalid() -> (Code, String) {
    (Code::InvalidArgument, "INVALID_FIELD".to_owned())
}

fn protocol() -> (Code, String) {
    (Code::InvalidArgument, "STREAM_PROTOCOL".to_owned())
}

fn no_container() -> (Code, String) {
    (Code::NotFound, "CONTAINER_NOT_FOUND".to_owned())
}

fn no_exec() -> (Code, String) {
    (Code::NotFound, "EXEC_NOT_FOUND".to_owned())
}

#[tokio::test]
async fn a_missing_container_is_said_before_what_else_is_wrong_with_an_exec() {
    let api = Api::new().await;
    let container = api.create(|_| ()).await.id;
    for (container, expected) in [
        ("nobody", no_container()),
        ("", invalid()),
        (container.as_str(), invalid()),
    ] {
        let container = container.to_owned();
        let create = v1::CreateExecRequest {
            container: container.clone(),
            ..Default::default()
        };
        let sync = v1::ExecSyncRequest {
            container: container.clone(),
            ..Default::default()
        };
        let write = v1::WriteStdinRequest {
            target: Some(v1::write_stdin_request::Target::Container(
                container.clone(),
            )),
            data: vec![0; (64 << 10) + 1].into(),
            ..Default::default()
        };
        let start = v1::RunExecStart {
            container,
            ..Default::default()
        };
        let mut client = execs(&api);
        assert_eq!(refusal(client.create_exec(create).await), expected);
        assert_eq!(refusal(client.exec_sync(sync).await), expected);
        assert_eq!(refusal(client.write_stdin(write).await), expected);
        assert_eq!(refusal(run_exec(&api, start).await), expected);
    }
    api.close().await;
}

async fn run_exec(
    api: &Api,
    start: v1::RunExecStart,
) -> Result<tonic::Response<tonic::Streaming<v1::RunExecResponse>>, Status> {
    let message = v1::RunExecRequest {
        request: Some(v1::run_exec_request::Request::Start(Box::new(start))),
    };
    execs(api).run_exec(stream::iter([message])).await
}

#[tokio::test]
async fn what_is_no_exec_id_names_no_exec() {
    let api = Api::new().await;
    for id in ["web", "ABC", &"a".repeat(128)] {
        let request = v1::GetExecRequest {
            exec_id: id.to_owned(),
        };
        assert_eq!(refusal(execs(&api).get_exec(request).await), no_exec());
    }
    for id in ["", "a\0", &"a".repeat(129)] {
        let request = v1::GetExecRequest {
            exec_id: id.to_owned(),
        };
        assert_eq!(refusal(execs(&api).get_exec(request).await), invalid());
    }
    let delete = |allow_missing| v1::DeleteExecRequest {
        exec_id: "web".to_owned(),
        allow_missing,
        ..Default::default()
    };
    assert_eq!(
        refusal(execs(&api).delete_exec(delete(false)).await),
        no_exec()
    );
    let deleted = execs(&api).delete_exec(delete(true)).await.unwrap();
    assert!(!deleted.into_inner().changed);
    api.close().await;
}

#[tokio::test]
async fn a_missing_exec_is_said_before_what_else_is_wrong() {
    let api = Api::new().await;
    let mut client = execs(&api);
    let exec_id = || NO_SUCH_EXEC.to_owned();
    let signal = v1::SignalExecRequest {
        exec_id: exec_id(),
        ..Default::default()
    };
    assert_eq!(refusal(client.signal_exec(signal).await), no_exec());
    let resize = v1::ResizeExecRequest {
        exec_id: exec_id(),
        size: None,
    };
    assert_eq!(refusal(client.resize_exec(resize).await), no_exec());
    let follow = v1::FollowExecRequest {
        exec_id: exec_id(),
        replay_bytes: -1,
        ..Default::default()
    };
    assert_eq!(refusal(client.follow_exec(follow).await), no_exec());
    api.close().await;
}

#[tokio::test]
async fn calls_that_send_must_begin_with_their_start() {
    let api = Api::new().await;
    let empty = || stream::iter([]);
    assert_eq!(refusal(execs(&api).run_exec(empty()).await), protocol());
    let empty = || stream::iter([]);
    assert_eq!(refusal(execs(&api).attach_exec(empty()).await), protocol());
    let message = v1::AttachContainerRequest::default();
    let refused = api
        .containers()
        .attach_container(stream::iter([message]))
        .await;
    assert_eq!(refusal(refused), protocol());
    let input = v1::RunContainerRequest {
        request: Some(v1::run_container_request::Request::Input(
            v1::ProcessInput::default(),
        )),
    };
    let refused = api.containers().run_container(stream::iter([input])).await;
    assert_eq!(refusal(refused), protocol());
    api.close().await;
}

#[tokio::test]
async fn streams_of_containers_are_checked_before_anything_happens() {
    let api = Api::new().await;
    let container = api.create(|_| ()).await.id;
    for (container, expected) in [("nobody", no_container()), (&container, invalid())] {
        let attach = v1::AttachContainerRequest {
            request: Some(v1::attach_container_request::Request::Start(
                v1::AttachContainerStart {
                    container: container.to_owned(),
                    options: Some(v1::AttachOptions {
                        on_disconnect: 9,
                        ..Default::default()
                    }),
                    expected_run: None,
                },
            )),
        };
        let refused = api
            .containers()
            .attach_container(stream::iter([attach]))
            .await;
        assert_eq!(refusal(refused), expected);
        let follow = v1::FollowContainerRequest {
            container: container.to_owned(),
            streams: vec![0],
            ..Default::default()
        };
        let refused = api.containers().follow_container(follow).await;
        assert_eq!(refusal(refused), expected);
        let resize = v1::ResizeContainerRequest {
            container: container.to_owned(),
            size: None,
        };
        let refused = api.containers().resize_container(resize).await;
        assert_eq!(refusal(refused), expected);
    }
    let run = v1::RunContainerRequest {
        request: Some(v1::run_container_request::Request::Start(Box::default())),
    };
    let refused = api.containers().run_container(stream::iter([run])).await;
    assert_eq!(refusal(refused), invalid());
    api.close().await;
}
