//! The event subscription: how ends of runs are noticed, and whether containerd is there.
//!
//! ```text
//! Connecting --version, subscribe, reconcile--> Connected --stream breaks or falls silent-->
//!     Disconnected --back off, version, subscribe, reconcile--> Connected ...
//! ```
//!
//! One subscription serves all containers. Connected is said only when the subscription stands and
//! every run that ended meanwhile is settled, so that nobody is left running for ever. The loop is the
//! backend's one task; it never waits for those who listen.

use std::time::Duration;

use containerd_client::events::{TaskDelete, TaskExit, TaskOom};
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::Any;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::connection::{Connection, Rpc, bounded};
use super::error::RpcError;
use super::exit::Ended;
use super::name::{ExecName, Name};
use super::observer::Observer;
use super::reconcile::reconcile;
use crate::backend::Status;
use crate::model::ServerId;

const VERSION: Rpc = Rpc::quick("containerd.version.version");
const SUBSCRIBE: Rpc = Rpc::quick("containerd.events.subscribe");
const PUBLISH: Rpc = Rpc {
    deadline: ECHO_TIMEOUT,
    ..Rpc::quick("containerd.events.publish")
};

/// The topic of our own events. Other servers in the namespace use it, too: that does not matter.
const KNOCK_TOPIC: &str = "/wharf/knock";
const KNOCK_TYPE: &str = "wharf.dev/Knock";
/// How often to knock until the subscription's first event comes.
const KNOCK_EVERY: Duration = Duration::from_millis(20);
/// How long the stream may be silent before containerd is asked for a sign of life.
const QUIET_FOR: Duration = Duration::from_secs(5);
/// How long that sign may take.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at cgroups at once.
const MAX_OOM_LOOKS: usize = 256;

/// The subscription and the status that follows from it.
#[derive(Debug)]
pub(super) struct Events {
    connection: Connection,
    observer: Observer,
    server_id: ServerId,
    status: watch::Sender<Status>,
    /// Looks at cgroups, which take a moment and must not delay the events behind them.
    oom_looks: JoinSet<()>,
}

impl Events {
    /// Nothing happens before [`Self::run`].
    pub(super) fn new(
        connection: Connection,
        observer: Observer,
        server_id: ServerId,
    ) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::Connecting {
            detail: String::new(),
        });
        let events = Self {
            connection,
            observer,
            server_id,
            status,
            oom_looks: JoinSet::new(),
        };
        (events, receiver)
    }

    /// Connects, follows the events, and starts over whenever that ends.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let broken = match self.open().await {
                Ok((version, stream)) => {
                    backoff = Backoff::default();
                    self.say_connected(version);
                    self.follow(stream).await
                }
                Err(error) => error,
            };
            self.say_broken(&broken);
            sleep(backoff.next()).await;
        }
    }

    async fn open(&self) -> Result<(String, Streaming<Envelope>), RpcError> {
        let version = self.version().await?;
        let stream = self.subscribe().await?;
        reconcile(&self.connection, &self.observer).await?;
        Ok((version, stream))
    }

    async fn version(&self) -> Result<String, RpcError> {
        let answer = self
            .connection
            .call(VERSION, (), |channel, request| async move {
                VersionClient::new(channel).version(request).await
            })
            .await?;
        Ok(answer.version)
    }

    /// Subscribes, and returns when the subscription stands. containerd sends not even headers before
    /// the first event, so this makes events until one of them has come through.
    async fn subscribe(&self) -> Result<Streaming<Envelope>, RpcError> {
        let namespace = self.connection.namespace();
        let request = SubscribeRequest {
            filters: vec![
                format!(r#"namespace=="{namespace}",topic~="^/tasks/(exit|oom|delete)$""#),
                format!(r#"namespace=="{namespace}",topic=="{KNOCK_TOPIC}""#),
            ],
        };
        let request = self.connection.request(request, None);
        let mut client = EventsClient::new(self.connection.events());
        tokio::select! {
            stream = bounded(SUBSCRIBE, client.subscribe(request)) => stream,
            error = self.keep_knocking() => Err(error),
        }
    }

    async fn keep_knocking(&self) -> RpcError {
        loop {
            if let Err(error) = self.knock().await {
                return error;
            }
            sleep(KNOCK_EVERY).await;
        }
    }

    /// Makes an event of our own.
    async fn knock(&self) -> Result<(), RpcError> {
        let request = PublishRequest {
            topic: KNOCK_TOPIC.to_owned(),
            event: Some(Any {
                type_url: KNOCK_TYPE.to_owned(),
                value: self.server_id.as_bytes().to_vec(),
            }),
        };
        self.connection
            .call(PUBLISH, request, |channel, request| async move {
                EventsClient::new(channel).publish(request).await
            })
            .await
    }

    /// Takes events until the stream breaks, or containerd gives no sign of life.
    async fn follow(&mut self, mut stream: Streaming<Envelope>) -> RpcError {
        loop {
            let next = match timeout(QUIET_FOR, stream.message()).await {
                Ok(next) => next.map_err(|status| RpcError::of(SUBSCRIBE, &status)),
                Err(_) => self.sign_of_life(&mut stream).await,
            };
            match next {
                Ok(Some(event)) => self.take(event),
                Ok(None) => return RpcError::ended(SUBSCRIBE),
                Err(error) => return error,
            }
        }
    }

    /// Knocks, and waits for any event.
    async fn sign_of_life(
        &self,
        stream: &mut Streaming<Envelope>,
    ) -> Result<Option<Envelope>, RpcError> {
        self.knock().await?;
        match timeout(ECHO_TIMEOUT, stream.message()).await {
            Ok(next) => next.map_err(|status| RpcError::of(SUBSCRIBE, &status)),
            Err(_) => Err(RpcError::deadline(PUBLISH)),
        }
    }

    fn take(&mut self, envelope: Envelope) {
        let value = envelope.event.unwrap_or_default().value;
        let taken = match envelope.topic.as_str() {
            "/tasks/exit" => TaskExit::decode(&*value).map(Noticed::from),
            "/tasks/delete" => TaskDelete::decode(&*value).map(Noticed::from),
            "/tasks/oom" => TaskOom::decode(&*value).map(Noticed::from),
            _ => return,
        };
        match taken {
            Ok(noticed) => self.notice(noticed),
            Err(error) => {
                tracing::warn!(topic = envelope.topic, %error, "containerd sent an event that cannot be read");
            }
        }
    }

    fn notice(&mut self, noticed: Noticed) {
        match noticed {
            Noticed::Ended(name, ended) => self.observer.ended(name, &ended),
            Noticed::ExecEnded(name, ended) => self.observer.exec_ended(name, &ended),
            Noticed::Oom(name) => self.look_for_oom(name),
            Noticed::Foreign => {}
        }
    }

    fn look_for_oom(&mut self, name: Name) {
        while self.oom_looks.try_join_next().is_some() {}
        // In a storm of notices those under way see what the dropped ones are about.
        if self.oom_looks.len() < MAX_OOM_LOOKS {
            let observer = self.observer.clone();
            self.oom_looks
                .spawn(async move { observer.oom(name).await });
        }
    }

    fn say_connected(&self, version: String) {
        tracing::info!(version, "containerd is connected");
        self.status.send_replace(Status::Connected { version });
    }

    /// Says it once: what broke is of interest, not what each further attempt meets.
    fn say_broken(&self, error: &RpcError) {
        let detail = error.to_string();
        self.status.send_if_modified(|status| match status {
            Status::Connected { .. } => {
                tracing::warn!(%error, "containerd is lost");
                *status = Status::Disconnected { detail };
                true
            }
            Status::Connecting { detail: last } if *last != detail => {
                tracing::warn!(%error, "containerd cannot be reached yet");
                *last = detail;
                true
            }
            Status::Connecting { .. } | Status::Disconnected { .. } => false,
        });
    }
}

/// What an event is about.
#[derive(Debug)]
enum Noticed {
    /// The init process of a container ended.
    Ended(Name, Ended),
    /// An exec ended.
    ExecEnded(ExecName, Ended),
    /// The OOM killer acted.
    Oom(Name),
    /// Something that is not ours.
    Foreign,
}

impl Noticed {
    /// The end of process `id` of a container. Its init process has the container's name.
    fn end(container_id: &str, id: &str, ended: Ended) -> Self {
        let Ok(container) = container_id.parse() else {
            return Self::Foreign;
        };
        if id.is_empty() || id == container_id {
            return Self::Ended(container, ended);
        }
        match id.parse() {
            Ok(exec) => Self::ExecEnded(ExecName { container, exec }, ended),
            Err(_) => Self::Foreign,
        }
    }
}

impl From<TaskExit> for Noticed {
    fn from(event: TaskExit) -> Self {
        let (container_id, id) = (event.container_id.clone(), event.id.clone());
        Self::end(&container_id, &id, event.into())
    }
}

impl From<TaskDelete> for Noticed {
    fn from(event: TaskDelete) -> Self {
        let (container_id, id) = (event.container_id.clone(), event.id.clone());
        Self::end(&container_id, &id, event.into())
    }
}

impl From<TaskOom> for Noticed {
    fn from(event: TaskOom) -> Self {
        event.container_id.parse().map_or(Self::Foreign, Self::Oom)
    }
}

/// Pauses between attempts: 100 ms, doubling, at most 5 s.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    const MAX: Duration = Duration::from_secs(5);

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::MAX);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerId, ExecId};

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn an_exec_of_a_container_is_not_its_end() {
        let id = ContainerId::generate().to_string();
        let exit = |exec: &str| {
            Noticed::from(TaskExit {
                container_id: id.clone(),
                id: exec.to_owned(),
                ..TaskExit::default()
            })
        };
        assert!(matches!(exit("exec-1"), Noticed::Foreign));
        let exec = ExecId::generate();
        assert!(
            matches!(exit(&exec.to_string()), Noticed::ExecEnded(name, _) if name.exec == exec)
        );
        assert!(matches!(exit(""), Noticed::Ended(..)));
        assert!(matches!(exit(&id), Noticed::Ended(..)));
    }

    #[test]
    fn containers_that_are_not_named_as_ours_are_left_alone() {
        let event = TaskOom {
            container_id: "redis".to_owned(),
        };
        assert!(matches!(Noticed::from(event), Noticed::Foreign));
    }
}
