//! The engine over a real store and the fake backend.
//!
//! A [`World`] is a state directory and a backend that outlive servers: a server can be shut down,
//! or crash, and the next one takes over. Each server has a runtime of its own with a clock that
//! stands still unless a test moves it, so that what happens does not depend on the machine's speed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod doubt;
mod execs;
mod exports;
mod idempotency;
mod images;
mod lifecycle;
mod logs;
mod prunes;
mod random;
mod recovery;
mod sessions;
mod start;
mod stats;
mod stop;
mod storage;
mod story;
mod strays;
mod updates;
mod waiting;
mod world;

use world::{IDLE_TASKS, Up, World};

use std::time::Duration;

use super::*;
use crate::backend::fake::{Fault, Operation, When};
use crate::backend::{Applied, BackendError, WaitStatus};
use crate::model::limits;
use crate::model::request::{Deduplication, IdempotencyKey};
use crate::model::spec::{Network, ProcessSpec, Resources, Seccomp, TextMap};
use crate::model::{Cause, ContainerSpec, LaunchFailure, Principal, RequestId, Signal, samples};

/// The image that every world has.
const IMAGE: &str = "example.org/app:1";

/// The cause of a call with this request id.
fn cause(request: &str) -> Cause {
    Cause {
        request_id: RequestId::parse(request).unwrap(),
        trace_id: None,
        method: "/wharf.v1.ContainerService/Some".into(),
        principal: Principal::user(1000),
    }
}

fn call(request: &str) -> Call {
    Call {
        cause: cause(request),
        deduplication: None,
        deadline: None,
    }
}

/// A call of `method` with an idempotency key. `body` stands for the request.
fn keyed(request: &str, method: &str, key: &str, body: u8) -> Call {
    Call {
        deduplication: Some(Deduplication {
            key: IdempotencyKey {
                principal: Principal::user(1000),
                method: format!("/wharf.v1.ContainerService/{method}").into(),
                key: key.into(),
            },
            request_digest: [body; 32],
        }),
        ..call(request)
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        image: IMAGE.to_owned(),
        process: ProcessSpec {
            args: vec!["/bin/app".to_owned()],
            ..ProcessSpec::default()
        },
        ..samples::spec()
    }
}

fn request(name: &str) -> CreateContainer {
    CreateContainer {
        name: Some(name.to_owned()),
        spec: spec(),
        labels: TextMap::new(),
        pull: PullFirst::default(),
        platform: None,
        start: false,
    }
}

fn and_start(create: CreateContainer) -> CreateContainer {
    CreateContainer {
        start: true,
        ..create
    }
}

fn auto_delete(create: CreateContainer) -> CreateContainer {
    CreateContainer {
        spec: ContainerSpec {
            auto_delete: true,
            ..create.spec
        },
        ..create
    }
}

fn grace(seconds: u64) -> StopContainer {
    StopContainer {
        grace_period: Some(Duration::from_secs(seconds)),
        ..StopContainer::default()
    }
}

fn force() -> DeleteContainer {
    DeleteContainer {
        force: true,
        grace_period: Duration::from_secs(10),
        etag: None,
    }
}

fn plain() -> DeleteContainer {
    DeleteContainer::default()
}

/// A call that was cut off: whether it acted is not known.
fn unknown() -> BackendError {
    unavailable(Applied::Unknown)
}

fn unavailable(applied: Applied) -> BackendError {
    BackendError::Unavailable {
        backend: "fake",
        detail: "told to".to_owned(),
        applied,
    }
}

fn no_such_program() -> BackendError {
    LaunchFailure::ExecutableNotFound {
        path: "/bin/app".to_owned(),
    }
    .into()
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, Error>, expected: Applied) {
    match result {
        Err(Error::Backend(BackendError::Unavailable { applied, .. })) => {
            assert_eq!(applied, expected);
        }
        other => panic!("not unavailable: {other:?}"),
    }
}

/// Checks an error's kind.
macro_rules! assert_refused {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}: {other:?}", stringify!($pattern)),
        }
    };
}
use assert_refused;
