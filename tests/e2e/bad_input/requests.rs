//! A harmless request for every method: well-formed, and bound to change nothing however it is altered.
//! Mutations are told to act on a run or a version that does not exist, or only to check.

use std::collections::BTreeMap;

use prost::Message as _;
use wharf_api::Method;
use wharf_api::v1::import_image_request::Request::Start;
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
    /// It refuses everything, as it is not built yet.
    Nothing,
}

/// The request, encoded.
///
/// # Panics
/// For a method that has none: whoever adds a method decides what is harmless.
#[rustfmt::skip] // A table: one method, one row.
#[allow(clippy::needless_update, reason = "some requests have no other fields, yet")]
pub fn harmless(method: &Method) -> (Does, Vec<u8>) {
    use Does::{Answer, Nothing, Refuse};
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
        "AttachContainer" | "FollowContainer" | "ResizeContainer" | "RunContainer" => (Nothing, Vec::new()),
        "PullImage" | "PushImage" | "PruneImages" | "ExportImage" => (Nothing, Vec::new()),
        "GetDiskUsage" => (Nothing, Vec::new()),
        "StatPath" => request!(Answer, StatPathRequest { container: container(), path: "/bin".to_owned(), }),
        "ReadArchive" => request!(Answer, ReadArchiveRequest { container: container(), path: "/etc".to_owned(), }),
        "ReadFile" => request!(Answer, ReadFileRequest { container: container(), path: "/etc/passwd".to_owned(), }),
        // Without their data.
        "WriteArchive" => (Refuse, write_archive().encode_to_vec()),
        "WriteFile" => (Refuse, write_file().encode_to_vec()),
        _ if later_service(method) => (Nothing, Vec::new()),
        other => panic!("no harmless request for {other}: say which it is"),
    }
}

/// Services of which nothing is built yet.
fn later_service(method: &Method) -> bool {
    matches!(
        method.service,
        "wharf.v1.ExecService" | "wharf.v1.LogService" | "wharf.v1.StatsService"
    )
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
