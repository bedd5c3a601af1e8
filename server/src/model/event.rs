//! Events: what the journal holds, in order.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::container::ExitStatus;
use super::failure::Failure;
use super::id::{ContainerId, ExecId, Run, Sequence};
use super::request::Cause;
use super::signal::Signal;
use super::spec::TextMap;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A container was created.
    ContainerCreated,
    /// Its main process started.
    ContainerStarted,
    /// Its main process ended. Exactly one for each run.
    ContainerExited {
        /// How.
        exit: Arc<ExitStatus>,
    },
    /// A start failed.
    ContainerStartFailed {
        /// How.
        failure: Failure,
    },
    /// A stop was asked for.
    ContainerStopping,
    /// A signal was sent.
    ContainerSignaled {
        /// Which.
        signal: Signal,
    },
    /// Frozen.
    ContainerPaused,
    /// Thawed.
    ContainerResumed,
    /// Name, labels or resources changed.
    ContainerUpdated {
        /// Changed paths of the API's `Container`, such as `labels.app`.
        paths: Vec<String>,
        /// The labels before, if they changed: filters match either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous_labels: Option<Arc<TextMap>>,
    },
    /// Control of it was lost.
    ContainerFailed {
        /// How.
        failure: Failure,
    },
    /// Removed. Always the last of a container.
    ContainerDeleted,
    /// The OOM killer acted inside.
    ContainerOom,
    /// An exec was recorded.
    ExecCreated {
        /// Which.
        exec: ExecId,
    },
    /// Its process started.
    ExecStarted {
        /// Which.
        exec: ExecId,
    },
    /// It could not be started.
    ExecStartFailed {
        /// Which.
        exec: ExecId,
        /// How.
        failure: Failure,
    },
    /// Its process ended. Exactly one for each that started.
    ExecExited {
        /// Which.
        exec: ExecId,
        /// How.
        exit: Arc<ExitStatus>,
    },
    /// An image was pulled.
    ImagePulled,
    /// A pull has failed.
    ImagePullFailed {
        /// How.
        failure: Failure,
    },
    /// An image was imported.
    ImageImported,
    /// An image was given one more reference.
    ImageTagged,
    /// A reference was removed.
    ImageUntagged,
    /// An image was deleted.
    ImageDeleted,
    /// The server started.
    SystemStarted,
    /// The server is draining.
    SystemDraining,
    /// The backend was lost.
    BackendDisconnected {
        /// How.
        failure: Failure,
    },
    /// The backend is back, and states are reconciled.
    BackendConnected,
}

impl EventKind {
    /// The exec it is about.
    #[must_use]
    pub fn exec(&self) -> Option<ExecId> {
        match self {
            Self::ExecCreated { exec }
            | Self::ExecStarted { exec }
            | Self::ExecStartFailed { exec, .. }
            | Self::ExecExited { exec, .. } => Some(*exec),
            _ => None,
        }
    }
}

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// An event's type: its kind without what it carries.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EventType {
            $(#[doc = concat!("See [`EventKind::", stringify!($name), "`].")] $name),*
        }

        impl EventKind {
            /// Its type.
            #[must_use]
            pub fn event_type(&self) -> EventType {
                match self {
                    $(Self::$name { .. } => EventType::$name),*
                }
            }
        }
    };
}

event_types!(
    ContainerCreated,
    ContainerStarted,
    ContainerExited,
    ContainerStartFailed,
    ContainerStopping,
    ContainerSignaled,
    ContainerPaused,
    ContainerResumed,
    ContainerUpdated,
    ContainerFailed,
    ContainerDeleted,
    ContainerOom,
    ExecCreated,
    ExecStarted,
    ExecStartFailed,
    ExecExited,
    ImagePulled,
    ImagePullFailed,
    ImageImported,
    ImageTagged,
    ImageUntagged,
    ImageDeleted,
    SystemStarted,
    SystemDraining,
    BackendDisconnected,
    BackendConnected,
);

/// The container an event is about, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSubject {
    /// Identity.
    pub id: ContainerId,
    /// Name then.
    pub name: Arc<str>,
    /// Labels then; for an update, after it.
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Arc<TextMap>,
    /// Run then; 0 before the first.
    pub run: Run,
}

fn no_labels(labels: &TextMap) -> bool {
    labels.is_empty()
}

/// An event that is not in the journal yet. Only the engine makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// When.
    pub time: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
    /// Which call caused it; none for what nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The container it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerSubject>,
    /// The image it is about, by reference or digest; for containers, the image they were made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
}

/// An event in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its position.
    pub sequence: Sequence,
    /// What it says.
    pub body: NewEvent,
}
