//! The client: sends requests with their metadata and deadline, and repeats those that may be.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use wharf_api::v1::{
    FollowLogsRequest, PullImageRequest, PushImageRequest, StreamLogsRequest, StreamStatsRequest,
    WaitContainerRequest, WaitResult, WatchEventsRequest,
};
use wharf_api::{ErrorReason, Method, metadata};

use crate::address::{Address, AddressError};
use crate::connection::{Connection, Cut};
use crate::download::{Content, Download};
use crate::error::Error;
use crate::logs::{LogFollow, Logs};
use crate::options::{CallOptions, RequestId};
use crate::pages::{Paged, Pages};
use crate::retry::{Progress, is_repeatable};
use crate::rpc::{ServerStreaming, Unary};
use crate::stats::StatsRounds;
use crate::transfer::Transfer;
use crate::upload::Upload;
use crate::watch::EventWatch;

/// How long after its deadline a call is given to hear that from the server, whose answer says more
/// than the local timer's.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// A client of one server. Cheap to clone; clones share the connection.
///
/// ```no_run
/// # async fn run() -> Result<(), wharf_client::Error> {
/// use wharf_client::{CallOptions, Client, RequestId};
/// use wharf_client::v1::GetContainerRequest;
///
/// let client = Client::connect("unix:///run/wharf/wharf.sock").await?
///     .with(CallOptions::new().request_id(RequestId::generate()));
/// let request = GetContainerRequest { container: "web".into(), ..Default::default() };
/// let container = client.call(request).await?.container;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<Connection>,
    options: CallOptions,
}

impl Client {
    /// Connects to a server: an [`Address`], or its text form.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::Connect`]; a connection that takes 5 s has failed.
    pub async fn connect<A>(address: A) -> Result<Self, Error>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into().map_err(AddressError::from)?;
        Ok(Self {
            connection: Arc::new(Connection::open(address).await?),
            options: CallOptions::default(),
        })
    }

    /// Connects to the server that `WHARF_HOST` names, or to the default address.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn from_env() -> Result<Self, Error> {
        Self::connect(Address::from_env()?).await
    }

    /// The same connection with other options, in place of the present ones.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self {
            connection: Arc::clone(&self.connection),
            options,
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    /// The channel, for the generated clients in [`v1`](crate::v1). Their calls are never repeated,
    /// and carry the options only in requests made by [`Self::request`].
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.connection.current().channel
    }

    /// `message` (or a stream of messages) as a request with the request id, the trace and the
    /// deadline of the options, for the generated clients.
    #[must_use]
    pub fn request<T>(&self, message: T) -> Request<T> {
        CallContext::new(self, "", "").into_request(message)
    }

    /// Makes a unary call.
    ///
    /// # Errors
    /// Any [`Error`] but `Incomplete` and `Read`.
    pub async fn call<R: Unary>(&self, request: R) -> Result<R::Response, Error> {
        let call = CallContext::new(self, R::METHOD, request.idempotency_key());
        let send =
            |channel: Channel, deadline| R::send(channel, call.request(request.clone(), deadline));
        Ok(self.attempt(&call, send).await?.into_inner())
    }

    /// Opens a stream of messages. Only the opening is ever repeated; [`Self::watch`] and
    /// [`Self::wait`] also go on after an interruption.
    ///
    /// # Errors
    /// Any [`Error`] but `Incomplete` and `Read`.
    pub async fn stream<R: ServerStreaming>(
        &self,
        request: R,
    ) -> Result<Messages<R::Response>, Error> {
        self.stream_in(request, self.context(R::METHOD)).await
    }

    /// As [`Self::stream`], as a part of a longer `call`.
    pub(crate) async fn stream_in<R: ServerStreaming>(
        &self,
        request: R,
        call: CallContext,
    ) -> Result<Messages<R::Response>, Error> {
        let send =
            |channel: Channel, deadline| R::send(channel, call.request(request.clone(), deadline));
        let stream = self.attempt(&call, send).await?.into_inner();
        Ok(Messages {
            stream,
            call,
            address: self.address().clone(),
        })
    }

    /// Reads a list page by page, from the page that `request` names.
    #[must_use]
    pub fn pages<R: Paged>(&self, request: R) -> Pages<R> {
        Pages::new(self.clone(), request)
    }

    /// Watches events, over interruptions of the connection and restarts of the server.
    #[must_use]
    pub fn watch(&self, request: WatchEventsRequest) -> EventWatch {
        EventWatch::new(self.clone(), request)
    }

    /// Reads one container's log, over interruptions of the connection and restarts of the server.
    #[must_use]
    pub fn logs(&self, request: StreamLogsRequest) -> Logs {
        Logs::new(self.clone(), request)
    }

    /// Follows the logs of all matching containers, over interruptions of the connection and restarts
    /// of the server.
    #[must_use]
    pub fn follow_logs(&self, request: FollowLogsRequest) -> LogFollow {
        LogFollow::new(self.clone(), request)
    }

    /// Reads what all matching containers use, round by round, over interruptions of the connection and
    /// restarts of the server.
    #[must_use]
    pub fn stats(&self, request: StreamStatsRequest) -> StatsRounds {
        StatsRounds::new(self.clone(), request)
    }

    /// Pulls an image, over interruptions of the connection and restarts of the server.
    #[must_use]
    pub fn pull(&self, request: PullImageRequest) -> Transfer<PullImageRequest> {
        Transfer::new(self.clone(), request)
    }

    /// Pushes an image, over interruptions of the connection and restarts of the server.
    #[must_use]
    pub fn push(&self, request: PushImageRequest) -> Transfer<PushImageRequest> {
        Transfer::new(self.clone(), request)
    }

    /// Waits until a condition of a container is met, over interruptions of the connection and
    /// restarts of the server: an interrupted wait is asked again about the same run.
    ///
    /// # Errors
    /// Any [`Error`] but `Read`; `CONDITION_UNREACHABLE` as a [`Error::Call`].
    pub async fn wait(&self, request: WaitContainerRequest) -> Result<WaitResult, Error> {
        crate::wait::wait(self, request).await
    }

    /// Imports an image archive, unpacks an archive of files into a container or writes one file there,
    /// as `start` says. The content (for archives plain, gzip or zstd tar) is sent as it is read, in
    /// chunks of at most 256 KiB, with its size and SHA-256 digest at the end. Never repeated.
    ///
    /// # Errors
    /// [`Error::Read`] if `content` fails: nothing is imported, no file is written, and of an archive of
    /// files what was unpacked so far stays. Else as [`Self::call`].
    pub async fn upload<U, A>(&self, start: U, content: A) -> Result<U::Response, Error>
    where
        U: Upload,
        A: AsyncRead + Unpin + Send + 'static,
    {
        crate::upload::upload(self, start, content).await
    }

    /// Reads a file of a container, a path with all below it as tar, or images as an OCI archive.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn download<R: Content>(&self, request: R) -> Result<Download<R>, Error> {
        Download::open(self, request).await
    }

    /// Whether the retry policy repeats anything.
    pub(crate) fn repeats(&self) -> bool {
        self.options.retry.max_attempts > 1
    }

    /// What the parts of a long call have in common.
    pub(crate) fn context(&self, method: &'static str) -> CallContext {
        CallContext::new(self, method, "")
    }

    /// See [`Connection::private`].
    pub(crate) fn private(&self) -> (Channel, Cut) {
        self.connection.private()
    }

    /// Sends until it works, or must not be repeated any more.
    pub(crate) async fn attempt<T, F, S>(&self, call: &CallContext, send: S) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
        S: Fn(Channel, Option<Duration>) -> F,
    {
        let mut attempts = 0;
        loop {
            let current = self.connection.current();
            let remaining = call.remaining()?;
            let sending = send(current.channel.clone(), remaining);
            let error = match call.bounded(self.address(), sending).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempts += 1;
            if error.reason() == Some(ErrorReason::ServerDraining) {
                self.connection.renew(&current);
            }
            match call.next_delay(attempts, &error, &self.options) {
                Some(delay) => sleep(delay).await,
                None => return Err(error),
            }
        }
    }

    /// Sends a stream of messages, once.
    pub(crate) async fn attempt_once<T, F>(
        &self,
        method: &'static str,
        send: impl FnOnce(Channel, CallContext) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let call = CallContext::new(self, method, "");
        call.bounded(self.address(), send(self.channel(), call.clone()))
            .await
    }
}

/// What all attempts of one call have in common.
#[derive(Debug, Clone)]
pub(crate) struct CallContext {
    request_id: RequestId,
    trace_parent: Option<String>,
    begun: Instant,
    deadline: Option<Instant>,
    repeatable: bool,
}

impl CallContext {
    fn new(client: &Client, method: &'static str, idempotency_key: &str) -> Self {
        let options = &client.options;
        let begun = Instant::now();
        let id = options.request_id.clone();
        Self {
            request_id: id.unwrap_or_else(RequestId::generate),
            trace_parent: options.trace_parent.as_ref().map(|t| t.as_str().to_owned()),
            begun,
            deadline: options.timeout.map(|timeout| begun + timeout),
            repeatable: Method::by_path(method)
                .is_some_and(|method| is_repeatable(method, idempotency_key)),
        }
    }

    /// A call that does no harm when it is repeated, whatever the proto says of its method.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// A further part of the same call: same id, same deadline, attempts counted anew.
    pub(crate) fn again(&self) -> Self {
        Self {
            begun: Instant::now(),
            ..self.clone()
        }
    }

    /// Sleeps for `delay`, but not beyond the deadline.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it has passed.
    pub(crate) async fn pause(&self, delay: Duration) -> Result<(), Error> {
        let remaining = self.remaining()?.unwrap_or(delay);
        sleep(delay.min(remaining)).await;
        self.remaining().map(drop)
    }

    /// Until the deadline, if there is one.
    fn remaining(&self) -> Result<Option<Duration>, Error> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        match self.deadline.map(left) {
            Some(Duration::ZERO) => Err(self.deadline_passed()),
            remaining => Ok(remaining),
        }
    }

    fn next_delay(&self, attempts: u32, error: &Error, options: &CallOptions) -> Option<Duration> {
        let progress = Progress {
            attempts,
            elapsed: self.begun.elapsed(),
            remaining: self.remaining().ok()?,
        };
        self.repeatable
            .then(|| options.retry.next_delay(progress, error))?
    }

    /// `work`, with its status read and its time limited. The transport's own timer ends with the
    /// headers, so it does not bound an answer whose body never comes.
    pub(crate) async fn bounded<T>(
        &self,
        address: &Address,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        let answer = match self.deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline + DEADLINE_GRACE, work)
                .await
                .map_err(|_| self.deadline_passed())?,
        };
        answer.map_err(|status| Error::from_status(&status, address, &self.request_id))
    }

    /// `work`, with its time limited.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline, work)
                .await
                .map_err(|_| self.deadline_passed())?,
        }
    }

    fn deadline_passed(&self) -> Error {
        Error::Deadline {
            request_id: self.request_id.to_string(),
        }
    }

    /// `message` with the call's metadata.
    pub(crate) fn request<T>(&self, message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        insert(
            request.metadata_mut(),
            metadata::REQUEST_ID,
            self.request_id.as_str(),
        );
        if let Some(parent) = &self.trace_parent {
            insert(request.metadata_mut(), metadata::TRACEPARENT, parent);
        }
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    /// As [`Self::request`], for a call that is sent once.
    pub(crate) fn into_request<T>(self, message: T) -> Request<T> {
        let remaining = self.remaining().unwrap_or(Some(Duration::ZERO));
        self.request(message, remaining)
    }
}

/// Ids and trace contexts are checked when they are made, so a value that cannot be sent is none.
fn insert(map: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        map.insert(key, value);
    }
}

/// The messages of an open stream. Dropping it ends the call.
#[derive(Debug)]
pub struct Messages<T> {
    stream: Streaming<T>,
    call: CallContext,
    address: Address,
}

impl<T> Messages<T> {
    /// The request id that the call carries.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.call.request_id
    }

    /// The next message; `None` when the server has ended the stream with OK. Safe to drop and
    /// call again.
    ///
    /// # Errors
    /// [`Error::Call`], [`Error::Disconnected`] and [`Error::Deadline`].
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        self.call
            .bounded(&self.address, self.stream.message())
            .await
    }
}
