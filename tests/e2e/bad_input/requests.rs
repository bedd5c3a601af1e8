//! A harmless request for every method: well-formed, and bound to change nothing however it is altered.
//! Mutations are told to act on a run or a version that does not exist, or only to check.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use wharf_api::Method;
use wharf_api::v1::import_image_request::Request::Start;
use wharf_api::v1::write_stdin_request::Target as Stdin;
use wharf_api::v1::{self, ContainerUpdate, CreateContainerRequest, ImportImageStart};

use crate::harness::{image, spec};

/// The container that is attacked; it runs.
pub const VICTIM: &str = "victim";
/// A run that the victim never gets to.
const NO_SUCH_RUN: Option<u64> = Some(999);
/// An etag that was never given out.
const NO_SUCH_ETAG: &str = "never";
/// An image that is not there.
const NO_SUCH_IMAGE: &str = "docker.io/library/nothing:here";

/// What a method does with a harmless request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// It answers.
    Answer,
    /// It refuses, for what makes the request harmless.
    Refuse,
}

/// The request, encoded.
///
/// # Panics
/// For a method that has none: whoever adds a method decides what is harmless.
#[rustfmt::skip] // A table: one method, one row.
#[allow(clippy::needless_update, reason = "some requests have no other fields, yet")]
pub fn harmless(method: &Method) -> (Does, Vec<u8>) {
    use Does::{Answer, Refuse};
    let container = || VICTIM.to_owned();
    let expected_run = NO_SUCH_RUN;
    macro_rules! request {
        ($does:ident, $name:ident { $($fields:tt)* }) => {
            ($does, v1::$name { $($fields)* ..Default::default() }.encode_to_vec())
        };
    }
    match method.name {
        "CreateContainer" => (Answer, create().encode_to_vec()),
        "GetContainer" => request!(Answer, GetContainerRequest { container: container(), }),
        "ListContainers" => request!(Answer, ListContainersRequest {}),
        "UpdateContainer" => (Refuse, update().encode_to_vec()),
        "DeleteContainer" =>
            request!(Refuse, DeleteContainerRequest { container: container(), force: true, etag: NO_SUCH_ETAG.to_owned(), }),
        "StartContainer" => request!(Refuse, StartContainerRequest { container: container(), expected_run, }),
        "StopContainer" => request!(Refuse, StopContainerRequest { container: container(), expected_run, }),
        "RestartContainer" => request!(Refuse, RestartContainerRequest { container: container(), expected_run, }),
        "SignalContainer" =>
            request!(Refuse, SignalContainerRequest { container: container(), expected_run, signal: "SIGHUP".to_owned(), }),
        "PauseContainer" => request!(Refuse, PauseContainerRequest { container: container(), expected_run, }),
        "ResumeContainer" => request!(Refuse, ResumeContainerRequest { container: container(), expected_run, }),
        "WaitContainer" => request!(Answer, WaitContainerRequest { container: container(), }),
        "ListContainerProcesses" => request!(Answer, ListContainerProcessesRequest { container: container(), }),
        "PruneContainers" => request!(Answer, PruneContainersRequest { dry_run: true, }),
        "WatchEvents" => request!(Answer, WatchEventsRequest {}),
        "ListEvents" => request!(Answer, ListEventsRequest {}),
        "GetImage" => request!(Answer, GetImageRequest { image: image::REFERENCE.to_owned(), }),
        "ListImages" => request!(Answer, ListImagesRequest {}),
        "TagImage" =>
            request!(Refuse, TagImageRequest { image: NO_SUCH_IMAGE.to_owned(), reference: "some:tag".to_owned(), }),
        "DeleteImage" => request!(Refuse, DeleteImageRequest { image: NO_SUCH_IMAGE.to_owned(), }),
        // Without its data.
        "ImportImage" => request!(Refuse, ImportImageRequest { request: Some(Start(ImportImageStart::default())), }),
        "GetVersion" => request!(Answer, GetVersionRequest {}),
        "GetCapabilities" => request!(Answer, GetCapabilitiesRequest {}),
        "GetInfo" => request!(Answer, GetInfoRequest {}),
        "AttachContainer" => request!(Refuse, AttachContainerRequest { request: Some(attach_container()), }),
        "FollowContainer" => request!(Refuse, FollowContainerRequest { container: container(), expected_run, }),
        // It has no terminal.
        "ResizeContainer" => request!(Refuse, ResizeContainerRequest { container: container(), size: Some(size()), }),
        "RunContainer" => request!(Refuse, RunContainerRequest { request: Some(run_container()), }),
        "CreateExec" => request!(Refuse, CreateExecRequest { container: container(), spec: Some(exec()), }),
        "StartExec" => request!(Refuse, StartExecRequest { exec_id: no_such_exec(), }),
        "RunExec" => request!(Refuse, RunExecRequest { request: Some(run_exec()), }),
        "AttachExec" => request!(Refuse, AttachExecRequest { request: Some(attach_exec()), }),
        "FollowExec" => request!(Refuse, FollowExecRequest { exec_id: no_such_exec(), }),
        "WriteStdin" =>
            request!(Refuse, WriteStdinRequest { target: Some(Stdin::Container(container())), expected_run, }),
        "ExecSync" => request!(Refuse, ExecSyncRequest { container: container(), spec: Some(exec()), }),
        "GetExec" => request!(Refuse, GetExecRequest { exec_id: no_such_exec(), }),
        "ListExecs" => request!(Answer, ListExecsRequest { container: container(), }),
        "SignalExec" =>
            request!(Refuse, SignalExecRequest { exec_id: no_such_exec(), signal: "SIGHUP".to_owned(), }),
        "ResizeExec" => request!(Refuse, ResizeExecRequest { exec_id: no_such_exec(), size: Some(size()), }),
        "WaitExec" => request!(Refuse, WaitExecRequest { exec_id: no_such_exec(), }),
        "DeleteExec" => request!(Refuse, DeleteExecRequest { exec_id: no_such_exec(), force: true, }),
        // Without an image, so that no registry is asked.
        "PullImage" => request!(Refuse, PullImageRequest {}),
        "PushImage" => request!(Refuse, PushImageRequest { image: NO_SUCH_IMAGE.to_owned(), }),
        "PruneImages" => request!(Answer, PruneImagesRequest { dry_run: true, }),
        "ExportImage" => request!(Refuse, ExportImageRequest { images: vec![NO_SUCH_IMAGE.to_owned()], }),
        "GetDiskUsage" => request!(Answer, GetDiskUsageRequest {}),
        "StatPath" => request!(Answer, StatPathRequest { container: container(), path: "/bin".to_owned(), }),
        "ReadArchive" => request!(Answer, ReadArchiveRequest { container: container(), path: "/etc".to_owned(), }),
        "ReadFile" => request!(Answer, ReadFileRequest { container: container(), path: "/etc/passwd".to_owned(), }),
        // Without their data.
        "WriteArchive" => (Refuse, write_archive().encode_to_vec()),
        "WriteFile" => (Refuse, write_file().encode_to_vec()),
        "StreamLogs" => request!(Answer, StreamLogsRequest { container: container(), }),
        "FollowLogs" => request!(Answer, FollowLogsRequest {}),
        "ListStats" => request!(Answer, ListStatsRequest {}),
        "StreamStats" => request!(Answer, StreamStatsRequest {}),
        other => panic!("no harmless request for {other}: say which it is"),
    }
}

fn size() -> v1::TerminalSize {
    v1::TerminalSize {
        rows: 24,
        columns: 80,
    }
}

fn no_such_exec() -> String {
    "0".repeat(32)
}

/// An exec of a user that the container does not have.
fn exec() -> v1::ExecSpec {
    v1::ExecSpec {
        process: Some(v1::ProcessSpec {
            args: vec!["true".to_owned()],
            user: "nobody-like-this".to_owned(),
            ..Default::default()
        }),
        timeout: Some(spec::duration(Duration::from_secs(5))),
        ..Default::default()
    }
}

fn run_exec() -> v1::run_exec_request::Request {
    v1::run_exec_request::Request::Start(Box::new(v1::RunExecStart {
        container: VICTIM.to_owned(),
        spec: Some(exec()),
        ..Default::default()
    }))
}

fn attach_exec() -> v1::attach_exec_request::Request {
    v1::attach_exec_request::Request::Start(v1::AttachExecStart {
        exec_id: no_such_exec(),
        options: None,
    })
}

fn run_container() -> v1::run_container_request::Request {
    v1::run_container_request::Request::Start(Box::new(v1::RunContainerStart {
        spec: Some(v1::ContainerSpec {
            image: NO_SUCH_IMAGE.to_owned(),
            ..spec::running(&["true"])
        }),
        ..Default::default()
    }))
}

fn attach_container() -> v1::attach_container_request::Request {
    v1::attach_container_request::Request::Start(v1::AttachContainerStart {
        container: VICTIM.to_owned(),
        expected_run: NO_SUCH_RUN,
        options: None,
    })
}

fn write_archive() -> v1::WriteArchiveRequest {
    let start = v1::WriteArchiveStart {
        container: VICTIM.to_owned(),
        path: "/tmp".to_owned(),
        ..Default::default()
    };
    v1::WriteArchiveRequest {
        request: Some(v1::write_archive_request::Request::Start(start)),
    }
}

fn write_file() -> v1::WriteFileRequest {
    let start = v1::WriteFileStart {
        container: VICTIM.to_owned(),
        path: "/tmp/file".to_owned(),
        ..Default::default()
    };
    v1::WriteFileRequest {
        request: Some(v1::write_file_request::Request::Start(start)),
    }
}

fn create() -> CreateContainerRequest {
    CreateContainerRequest {
        spec: Some(spec::running(&["true"])),
        validate_only: true,
        ..Default::default()
    }
}

fn update() -> v1::UpdateContainerRequest {
    v1::UpdateContainerRequest {
        container: VICTIM.to_owned(),
        update: Some(ContainerUpdate {
            set_labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..Default::default()
        }),
        etag: NO_SUCH_ETAG.to_owned(),
        ..Default::default()
    }
}
