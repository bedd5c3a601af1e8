//! Which request belongs to which RPC. Each RPC has a request type of its own, so the type of a
//! request says which method is meant and what comes back.

use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use wharf_api::v1::{self, *};

/// A request that gets one answer. See [`Client::call`](crate::Client::call).
pub trait Unary: Message + Clone + 'static {
    /// The answer.
    type Response: Send + 'static;
    /// Path of the method, such as `/wharf.v1.ContainerService/GetContainer`.
    const METHOD: &'static str;

    /// What makes the call safe to repeat; empty for none.
    fn idempotency_key(&self) -> &str {
        ""
    }

    /// Sends it once, by the generated client.
    fn send(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send;
}

/// A request that gets a stream of messages. See [`Client::stream`](crate::Client::stream).
pub trait ServerStreaming: Message + Clone + 'static {
    /// One message of the answer.
    type Response: std::fmt::Debug + Send + 'static;
    /// Path of the method, such as `/wharf.v1.EventService/WatchEvents`.
    const METHOD: &'static str;

    /// Sends it once, by the generated client.
    fn send(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Response>>, Status>> + Send;
}

/// `module::Client { method: Request => Response, "Service/Method"[, key]; … }`
macro_rules! unary {
    ($($module:ident :: $client:ident {
        $($method:ident : $request:ty => $response:ty, $path:literal $(, $key:ident)?;)*
    })*) => {$($(
        impl Unary for $request {
            type Response = $response;
            const METHOD: &'static str = concat!("/wharf.v1.", $path);

            $(fn idempotency_key(&self) -> &str {
                &self.$key
            })?

            async fn send(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<$response>, Status> {
                v1::$module::$client::new(channel).$method(request).await
            }
        }
    )*)*
    #[cfg(test)]
    const UNARY: &[(&str, bool)] = &[$($(
        (<$request as Unary>::METHOD, false $(|| !stringify!($key).is_empty())?),
    )*)*];
    };
}

macro_rules! server_streaming {
    ($($module:ident :: $client:ident {
        $($method:ident : $request:ty => $response:ty, $path:literal;)*
    })*) => {$($(
        impl ServerStreaming for $request {
            type Response = $response;
            const METHOD: &'static str = concat!("/wharf.v1.", $path);

            async fn send(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<Streaming<$response>>, Status> {
                v1::$module::$client::new(channel).$method(request).await
            }
        }
    )*)*
    #[cfg(test)]
    const SERVER_STREAMING: &[&str] = &[$($(<$request as ServerStreaming>::METHOD,)*)*];
    };
}

unary! {
    container_service_client::ContainerServiceClient {
        create_container: CreateContainerRequest => CreateContainerResponse, "ContainerService/CreateContainer", idempotency_key;
        get_container: GetContainerRequest => GetContainerResponse, "ContainerService/GetContainer";
        list_containers: ListContainersRequest => ListContainersResponse, "ContainerService/ListContainers";
        update_container: UpdateContainerRequest => UpdateContainerResponse, "ContainerService/UpdateContainer";
        delete_container: DeleteContainerRequest => DeleteContainerResponse, "ContainerService/DeleteContainer";
        start_container: StartContainerRequest => StartContainerResponse, "ContainerService/StartContainer", idempotency_key;
        stop_container: StopContainerRequest => StopContainerResponse, "ContainerService/StopContainer";
        restart_container: RestartContainerRequest => RestartContainerResponse, "ContainerService/RestartContainer", idempotency_key;
        signal_container: SignalContainerRequest => SignalContainerResponse, "ContainerService/SignalContainer", idempotency_key;
        pause_container: PauseContainerRequest => PauseContainerResponse, "ContainerService/PauseContainer";
        resume_container: ResumeContainerRequest => ResumeContainerResponse, "ContainerService/ResumeContainer";
        resize_container: ResizeContainerRequest => ResizeContainerResponse, "ContainerService/ResizeContainer";
        list_container_processes: ListContainerProcessesRequest => ListContainerProcessesResponse, "ContainerService/ListContainerProcesses";
    }
    event_service_client::EventServiceClient {
        list_events: ListEventsRequest => ListEventsResponse, "EventService/ListEvents";
    }
    exec_service_client::ExecServiceClient {
        create_exec: CreateExecRequest => CreateExecResponse, "ExecService/CreateExec", idempotency_key;
        start_exec: StartExecRequest => StartExecResponse, "ExecService/StartExec";
        write_stdin: WriteStdinRequest => WriteStdinResponse, "ExecService/WriteStdin", idempotency_key;
        exec_sync: ExecSyncRequest => ExecSyncResponse, "ExecService/ExecSync", idempotency_key;
        get_exec: GetExecRequest => GetExecResponse, "ExecService/GetExec";
        list_execs: ListExecsRequest => ListExecsResponse, "ExecService/ListExecs";
        signal_exec: SignalExecRequest => SignalExecResponse, "ExecService/SignalExec", idempotency_key;
        resize_exec: ResizeExecRequest => ResizeExecResponse, "ExecService/ResizeExec";
        delete_exec: DeleteExecRequest => DeleteExecResponse, "ExecService/DeleteExec";
    }
    file_service_client::FileServiceClient {
        stat_path: StatPathRequest => StatPathResponse, "FileService/StatPath";
    }
    image_service_client::ImageServiceClient {
        get_image: GetImageRequest => GetImageResponse, "ImageService/GetImage";
        list_images: ListImagesRequest => ListImagesResponse, "ImageService/ListImages";
        tag_image: TagImageRequest => TagImageResponse, "ImageService/TagImage";
        delete_image: DeleteImageRequest => DeleteImageResponse, "ImageService/DeleteImage";
    }
    stats_service_client::StatsServiceClient {
        list_stats: ListStatsRequest => ListStatsResponse, "StatsService/ListStats";
    }
    system_service_client::SystemServiceClient {
        get_version: GetVersionRequest => GetVersionResponse, "SystemService/GetVersion";
        get_capabilities: GetCapabilitiesRequest => GetCapabilitiesResponse, "SystemService/GetCapabilities";
        get_info: GetInfoRequest => GetInfoResponse, "SystemService/GetInfo";
        get_disk_usage: GetDiskUsageRequest => GetDiskUsageResponse, "SystemService/GetDiskUsage";
    }
}

server_streaming! {
    container_service_client::ContainerServiceClient {
        wait_container: WaitContainerRequest => WaitContainerResponse, "ContainerService/WaitContainer";
        follow_container: FollowContainerRequest => FollowContainerResponse, "ContainerService/FollowContainer";
        prune_containers: PruneContainersRequest => PruneContainersResponse, "ContainerService/PruneContainers";
    }
    event_service_client::EventServiceClient {
        watch_events: WatchEventsRequest => WatchEventsResponse, "EventService/WatchEvents";
    }
    exec_service_client::ExecServiceClient {
        follow_exec: FollowExecRequest => FollowExecResponse, "ExecService/FollowExec";
        wait_exec: WaitExecRequest => WaitExecResponse, "ExecService/WaitExec";
    }
    file_service_client::FileServiceClient {
        read_archive: ReadArchiveRequest => ReadArchiveResponse, "FileService/ReadArchive";
        read_file: ReadFileRequest => ReadFileResponse, "FileService/ReadFile";
    }
    image_service_client::ImageServiceClient {
        pull_image: PullImageRequest => PullImageResponse, "ImageService/PullImage";
        push_image: PushImageRequest => PushImageResponse, "ImageService/PushImage";
        prune_images: PruneImagesRequest => PruneImagesResponse, "ImageService/PruneImages";
        export_image: ExportImageRequest => ExportImageResponse, "ImageService/ExportImage";
    }
    log_service_client::LogServiceClient {
        stream_logs: StreamLogsRequest => StreamLogsResponse, "LogService/StreamLogs";
        follow_logs: FollowLogsRequest => FollowLogsResponse, "LogService/FollowLogs";
    }
    stats_service_client::StatsServiceClient {
        stream_stats: StreamStatsRequest => StreamStatsResponse, "StatsService/StreamStats";
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wharf_api::METHODS;

    #[test]
    fn every_method_that_takes_one_request_has_exactly_one_row() {
        let rows: Vec<_> = UNARY.iter().map(|(path, _)| *path).collect();
        let declared = |streams: bool| -> BTreeSet<&str> {
            let methods = METHODS
                .iter()
                .filter(|m| !m.client_streaming && m.server_streaming == streams);
            methods.map(|m| m.path).collect()
        };
        assert_eq!(rows.len(), declared(false).len());
        assert_eq!(BTreeSet::from_iter(rows), declared(false));
        assert_eq!(SERVER_STREAMING.len(), declared(true).len());
        assert_eq!(
            BTreeSet::from_iter(SERVER_STREAMING.iter().copied()),
            declared(true)
        );
    }

    #[test]
    fn a_request_with_an_idempotency_key_says_so() {
        let pool = prost_reflect::DescriptorPool::decode(wharf_api::FILE_DESCRIPTOR_SET)
            .expect("descriptors");
        for (path, keyed) in UNARY {
            let (service, name) = path[1..].split_once('/').expect("a path");
            let service = pool.get_service_by_name(service).expect("a service");
            let method = service
                .methods()
                .find(|m| m.name() == name)
                .expect("a method");
            let has_key = method
                .input()
                .get_field_by_name("idempotency_key")
                .is_some();
            assert_eq!(*keyed, has_key, "{path}");
        }
    }
}
