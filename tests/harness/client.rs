//! A client of the generated kind, with the calls that scenarios make most as one-liners.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use wharf_api::metadata::REQUEST_ID;
use wharf_api::v1::container_service_client::ContainerServiceClient;
use wharf_api::v1::event_service_client::EventServiceClient;
use wharf_api::v1::exec_service_client::ExecServiceClient;
use wharf_api::v1::file_service_client::FileServiceClient;
use wharf_api::v1::image_service_client::ImageServiceClient;
use wharf_api::v1::log_service_client::LogServiceClient;
use wharf_api::v1::stats_service_client::StatsServiceClient;
use wharf_api::v1::system_service_client::SystemServiceClient;
use wharf_api::v1::{
    self, Container, ExitStatus, GetInfoResponse, Image, container, event, import_image_request,
    wait_container_request, wait_container_response,
};

use super::direct::Direct;
use super::refusal::Refusal;
use super::wait::{so, until};
use super::{image, spec};

/// How long a call of a scenario may take when the scenario says nothing.
const DEADLINE: Duration = Duration::from_secs(240);

/// A connection, and the request id that its calls carry.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    channel: Channel,
    request_id: Option<String>,
    deadline: Option<Duration>,
}

impl Client {
    /// Over a Unix socket; connects when it is first used, and again after a break.
    pub fn of_socket(socket: &Path) -> Self {
        let uri = format!("unix://{}", socket.display());
        Self {
            socket: socket.to_owned(),
            channel: Endpoint::from_shared(uri).unwrap().connect_lazy(),
            request_id: None,
            deadline: Some(DEADLINE),
        }
    }

    /// The same connection; its calls carry this request id.
    pub fn with_id(&self, request_id: impl Into<String>) -> Self {
        Self {
            request_id: Some(request_id.into()),
            ..self.clone()
        }
    }

    /// The same connection; its calls end after this long, or never.
    pub fn with_deadline(&self, deadline: impl Into<Option<Duration>>) -> Self {
        Self {
            deadline: deadline.into(),
            ..self.clone()
        }
    }

    /// A request with what this client's calls carry.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(id) = &self.request_id {
            let value = MetadataValue::try_from(id.as_str()).unwrap();
            request.metadata_mut().insert(REQUEST_ID, value);
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// A new connection that leaves deadlines to the server.
    pub async fn direct(&self) -> Direct {
        Direct::connect(&self.socket).await
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::new(self.channel())
    }

    pub fn execs(&self) -> ExecServiceClient<Channel> {
        ExecServiceClient::new(self.channel())
    }

    pub fn logs(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel())
    }

    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel())
    }

    pub fn files(&self) -> FileServiceClient<Channel> {
        FileServiceClient::new(self.channel())
    }

    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel())
    }

    pub fn stats(&self) -> StatsServiceClient<Channel> {
        StatsServiceClient::new(self.channel())
    }

    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel())
    }
}

/// The answer, or the refusal, which is checked against the documented table.
pub fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Refusal> {
    result.map(Response::into_inner).map_err(Refusal::from)
}

/// Unary calls by name: the message in, the answer or the refusal out.
macro_rules! unary {
    ($($service:ident { $($name:ident: $request:ident -> $response:ident),* $(,)? })*) => {
        impl Client {$($(
            pub async fn $name(&self, message: v1::$request) -> Result<v1::$response, Refusal> {
                answer(self.$service().$name(self.request(message)).await)
            }
        )*)*}
    };
}

unary! {
    containers {
        create_container: CreateContainerRequest -> CreateContainerResponse,
        get_container: GetContainerRequest -> GetContainerResponse,
        list_containers: ListContainersRequest -> ListContainersResponse,
        update_container: UpdateContainerRequest -> UpdateContainerResponse,
        delete_container: DeleteContainerRequest -> DeleteContainerResponse,
        start_container: StartContainerRequest -> StartContainerResponse,
        stop_container: StopContainerRequest -> StopContainerResponse,
        restart_container: RestartContainerRequest -> RestartContainerResponse,
        signal_container: SignalContainerRequest -> SignalContainerResponse,
        pause_container: PauseContainerRequest -> PauseContainerResponse,
        resume_container: ResumeContainerRequest -> ResumeContainerResponse,
        resize_container: ResizeContainerRequest -> ResizeContainerResponse,
        list_container_processes: ListContainerProcessesRequest -> ListContainerProcessesResponse,
    }
    execs {
        create_exec: CreateExecRequest -> CreateExecResponse,
        start_exec: StartExecRequest -> StartExecResponse,
        write_stdin: WriteStdinRequest -> WriteStdinResponse,
        exec_sync: ExecSyncRequest -> ExecSyncResponse,
        get_exec: GetExecRequest -> GetExecResponse,
        list_execs: ListExecsRequest -> ListExecsResponse,
        signal_exec: SignalExecRequest -> SignalExecResponse,
        resize_exec: ResizeExecRequest -> ResizeExecResponse,
        delete_exec: DeleteExecRequest -> DeleteExecResponse,
    }
    events {
        list_events: ListEventsRequest -> ListEventsResponse,
    }
    files {
        stat_path: StatPathRequest -> StatPathResponse,
    }
    images {
        get_image: GetImageRequest -> GetImageResponse,
        list_images: ListImagesRequest -> ListImagesResponse,
        tag_image: TagImageRequest -> TagImageResponse,
        delete_image: DeleteImageRequest -> DeleteImageResponse,
    }
    stats {
        list_stats: ListStatsRequest -> ListStatsResponse,
    }
    system {
        get_version: GetVersionRequest -> GetVersionResponse,
        get_capabilities: GetCapabilitiesRequest -> GetCapabilitiesResponse,
        get_info: GetInfoRequest -> GetInfoResponse,
        get_disk_usage: GetDiskUsageRequest -> GetDiskUsageResponse,
    }
}

/// The same with only what usually varies.
impl Client {
    pub async fn info(&self) -> Result<GetInfoResponse, Refusal> {
        self.get_info(v1::GetInfoRequest {}).await
    }

    /// Creates a container with this name that runs `args`.
    pub async fn create(&self, name: &str, args: &[&str]) -> Result<Container, Refusal> {
        self.create_with(v1::CreateContainerRequest {
            name: name.to_owned(),
            spec: Some(spec::running(args)),
            ..Default::default()
        })
        .await
    }

    pub async fn create_with(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<Container, Refusal> {
        let response = self.create_container(request).await?;
        Ok(response.container.expect("a container"))
    }

    /// Creates and starts.
    pub async fn run(&self, name: &str, args: &[&str]) -> Result<Container, Refusal> {
        self.run_spec(name, spec::running(args)).await
    }

    /// Creates and starts.
    pub async fn run_spec(
        &self,
        name: &str,
        spec: v1::ContainerSpec,
    ) -> Result<Container, Refusal> {
        self.create_with(v1::CreateContainerRequest {
            name: name.to_owned(),
            spec: Some(spec),
            start: true,
            ..Default::default()
        })
        .await
    }

    /// Creates and starts [`spec::PATIENT`], and waits until it minds its stop signal.
    pub async fn run_patient(&self, name: &str) -> Result<Container, Refusal> {
        let container = self.run(name, spec::PATIENT).await?;
        self.until_it_minds_signals(name).await;
        Ok(container)
    }

    /// Waits until [`spec::PATIENT`] has come to its trap: before that, as process 1, it is not even
    /// hit by its stop signal.
    pub async fn until_it_minds_signals(&self, container: &str) {
        let request = v1::ListContainerProcessesRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        until("the container minds signals", DEADLINE, async || {
            let listed = self.list_container_processes(request.clone()).await;
            let all = listed.map_err(|refusal| refusal.to_string())?.processes;
            let waits = all
                .iter()
                .any(|p| p.args.first().is_some_and(|arg| arg == "sleep"));
            so(waits, || format!("{all:?}"))
        })
        .await;
    }

    pub async fn get(&self, container: &str) -> Result<Container, Refusal> {
        let request = v1::GetContainerRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        Ok(self
            .get_container(request)
            .await?
            .container
            .expect("a container"))
    }

    pub async fn state(&self, container: &str) -> Result<container::State, Refusal> {
        self.get(container).await.map(|container| container.state())
    }

    pub async fn start(&self, container: &str) -> Result<v1::StartContainerResponse, Refusal> {
        self.start_container(v1::StartContainerRequest {
            container: container.to_owned(),
            ..Default::default()
        })
        .await
    }

    /// Stops, with SIGKILL after `grace`.
    pub async fn stop(
        &self,
        container: &str,
        grace: Duration,
    ) -> Result<v1::StopContainerResponse, Refusal> {
        self.stop_container(v1::StopContainerRequest {
            container: container.to_owned(),
            grace_period: Some(spec::duration(grace)),
            ..Default::default()
        })
        .await
    }

    pub async fn signal(&self, container: &str, signal: &str) -> Result<(), Refusal> {
        let request = v1::SignalContainerRequest {
            container: container.to_owned(),
            signal: signal.to_owned(),
            ..Default::default()
        };
        self.signal_container(request).await.map(|_| ())
    }

    pub async fn pause(&self, container: &str) -> Result<bool, Refusal> {
        let request = v1::PauseContainerRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        Ok(self.pause_container(request).await?.changed)
    }

    pub async fn resume(&self, container: &str) -> Result<bool, Refusal> {
        let request = v1::ResumeContainerRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        Ok(self.resume_container(request).await?.changed)
    }

    pub async fn delete(&self, container: &str) -> Result<bool, Refusal> {
        self.delete_how(container, false).await
    }

    /// Deletes, killing it first if it runs.
    pub async fn delete_by_force(&self, container: &str) -> Result<bool, Refusal> {
        self.delete_how(container, true).await
    }

    async fn delete_how(&self, container: &str, force: bool) -> Result<bool, Refusal> {
        let request = v1::DeleteContainerRequest {
            container: container.to_owned(),
            force,
            ..Default::default()
        };
        Ok(self.delete_container(request).await?.changed)
    }

    /// Waits until the run (0: the current or latest) has ended.
    pub async fn exit_of(&self, container: &str, run: u64) -> Result<ExitStatus, Refusal> {
        let result = self.wait_for(container, run, &[]).await?;
        Ok(result.exit_status.expect("an exit status"))
    }

    /// Waits until one of `conditions` is met.
    pub async fn wait_for(
        &self,
        container: &str,
        run: u64,
        conditions: &[wait_container_request::Condition],
    ) -> Result<v1::WaitResult, Refusal> {
        use wait_container_response::Response::{Registered, Result as Met};
        let request = v1::WaitContainerRequest {
            container: container.to_owned(),
            run,
            conditions: conditions
                .iter()
                .map(|condition| *condition as i32)
                .collect(),
        };
        let mut messages = answer(
            self.containers()
                .wait_container(self.request(request))
                .await,
        )?;
        let first = messages.message().await?.expect("registered").response;
        assert!(matches!(first, Some(Registered(_))), "{first:?} came first");
        let second = messages.message().await?.expect("a result").response;
        let Some(Met(result)) = second else {
            panic!("{second:?} came second");
        };
        assert!(
            messages.message().await?.is_none(),
            "the result is the last"
        );
        Ok(result)
    }

    /// Every container, page by page.
    /// How an exec ends.
    pub async fn exec_exit(&self, exec_id: &str) -> Result<ExitStatus, Refusal> {
        use v1::wait_exec_response::Response;
        let request = v1::WaitExecRequest {
            exec_id: exec_id.to_owned(),
        };
        let mut messages = answer(self.execs().wait_exec(self.request(request)).await)?;
        let first = messages.message().await?.unwrap().response;
        assert!(matches!(first, Some(Response::Registered(_))), "{first:?}");
        match messages.message().await?.unwrap().response {
            Some(Response::Exited(exit)) => Ok(exit),
            other => panic!("the exit comes last, not {other:?}"),
        }
    }

    pub async fn list(&self) -> Result<Vec<Container>, Refusal> {
        let mut request = v1::ListContainersRequest::default();
        let mut all = Vec::new();
        loop {
            let page = self.list_containers(request.clone()).await?;
            all.extend(page.containers);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Deletes every container there is, running or not.
    pub async fn delete_every_container(&self) {
        for container in self.list().await.unwrap() {
            // One that deletes itself may be faster.
            let request = v1::DeleteContainerRequest {
                container: container.id,
                force: true,
                allow_missing: true,
                ..Default::default()
            };
            self.delete_container(request).await.unwrap();
        }
    }

    /// The id of every container there ever was, by the journal.
    pub async fn every_container_id(&self) -> BTreeSet<String> {
        let events = self.every_event().await;
        events
            .into_iter()
            .filter(|event| event.r#type() == event::Type::ContainerCreated)
            .map(|event| event.container_id)
            .collect()
    }

    /// Imports an archive in chunks, closed by its size and digest.
    pub async fn import(&self, archive: Bytes) -> Result<Vec<Image>, Refusal> {
        self.import_as("", archive).await
    }

    /// Imports an archive under a reference.
    pub async fn import_as(&self, reference: &str, archive: Bytes) -> Result<Vec<Image>, Refusal> {
        let start = v1::ImportImageStart {
            reference: reference.to_owned(),
            ..Default::default()
        };
        let messages = import_messages(start, &archive);
        let request = self.request(futures_util::stream::iter(messages));
        Ok(answer(self.images().import_image(request).await)?.images)
    }
}

impl Client {
    /// An archive of these images, which must be what its end says.
    pub async fn export(&self, images: &[&str]) -> Result<Bytes, Refusal> {
        use v1::export_image_response::Response::{Data, End};
        let request = v1::ExportImageRequest {
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            ..Default::default()
        };
        let answers = self.images().export_image(self.request(request)).await;
        let mut answers = answer(answers)?;
        let mut archive = Vec::new();
        let end = loop {
            match answers.message().await?.expect("an end").response {
                Some(Data(data)) => {
                    assert!((1..=256 << 10).contains(&data.len()));
                    archive.extend_from_slice(&data);
                }
                Some(End(end)) => break end,
                None => panic!("an empty message"),
            }
        };
        assert!(answers.message().await?.is_none(), "the end is the last");
        assert_eq!(end.size_bytes, i64::try_from(archive.len()).unwrap());
        assert_eq!(end.digest, image::digest(&Sha256::digest(&archive)));
        Ok(archive.into())
    }

    /// What a prune of images says of each.
    pub async fn prune_images(
        &self,
        request: v1::PruneImagesRequest,
    ) -> Result<Vec<v1::PruneImagesResponse>, Refusal> {
        let answers = self.images().prune_images(self.request(request)).await;
        let mut answers = answer(answers)?;
        let mut told = Vec::new();
        while let Some(image) = answers.message().await? {
            told.push(image);
        }
        Ok(told)
    }
}

/// What a well-behaved client sends.
pub fn import_messages(
    start: v1::ImportImageStart,
    archive: &Bytes,
) -> Vec<v1::ImportImageRequest> {
    use import_image_request::Request::{Data, End, Start};
    let end = v1::TransferEnd {
        size_bytes: i64::try_from(archive.len()).unwrap(),
        digest: image::digest(&Sha256::digest(archive)),
    };
    let chunks = (0..archive.len())
        .step_by(256 << 10)
        .map(|at| archive.slice(at..archive.len().min(at + (256 << 10))));
    std::iter::once(Start(start))
        .chain(chunks.map(Data))
        .chain([End(end)])
        .map(|request| v1::ImportImageRequest {
            request: Some(request),
        })
        .collect()
}
