//! What the journal tells, in words that tests can compare.

use super::*;
use crate::model::{ContainerId, Event, EventKind, ExitReason, ExitStatus, Sequence};
use crate::store::tests::all_events;

impl Up {
    /// What happened to a container, in order: `exited 1 with 143 by stop` is the exit of run 1 with
    /// code 143 that the call with request id `stop` caused.
    pub(super) async fn story(&self, id: ContainerId) -> Vec<String> {
        let events = all_events(self.engine.journal()).await;
        let of_it = events
            .iter()
            .filter(|e| e.body.container.as_ref().is_some_and(|c| c.id == id));
        of_it.map(|event| told(event)).collect()
    }

    /// Everything that happened. The sequences are dense.
    pub(super) async fn chronicle(&self) -> Vec<String> {
        let events = all_events(self.engine.journal()).await;
        let dense = (1..).take(events.len()).map(Sequence);
        assert!(events.iter().map(|e| e.sequence).eq(dense));
        events.iter().map(|event| told(event)).collect()
    }
}

pub(super) fn told(event: &Event) -> String {
    let body = &event.body;
    let run = body.container.as_ref().map_or(0, |c| c.run.0);
    let what = match &body.kind {
        EventKind::ContainerCreated => "created".to_owned(),
        EventKind::ContainerStarted => format!("started {run}"),
        EventKind::ContainerExited { exit } => exited(exit),
        EventKind::ContainerStartFailed { .. } => format!("start failed {run}"),
        EventKind::ContainerStopping => format!("stopping {run}"),
        EventKind::ContainerSignaled { signal } => format!("signaled {signal}"),
        EventKind::ContainerPaused => "paused".to_owned(),
        EventKind::ContainerResumed => "resumed".to_owned(),
        EventKind::ContainerUpdated { paths, .. } => format!("updated {}", paths.join(",")),
        EventKind::ContainerFailed { .. } => "failed".to_owned(),
        EventKind::ContainerDeleted => "deleted".to_owned(),
        EventKind::ContainerOom => "oom".to_owned(),
        EventKind::ExecCreated { .. } => "exec created".to_owned(),
        EventKind::ExecStarted { .. } => "exec started".to_owned(),
        EventKind::ExecStartFailed { .. } => "exec start failed".to_owned(),
        EventKind::ExecExited { exit, .. } => format!("exec {}", exited(exit)),
        EventKind::ImagePulled => "pulled".to_owned(),
        EventKind::ImagePullFailed { .. } => "pull failed".to_owned(),
        EventKind::ImageImported => "imported".to_owned(),
        EventKind::ImageTagged => "tagged".to_owned(),
        EventKind::ImageUntagged => "untagged".to_owned(),
        EventKind::ImageDeleted => "image deleted".to_owned(),
        EventKind::SystemStarted => "system started".to_owned(),
        EventKind::SystemDraining => "draining".to_owned(),
        EventKind::BackendDisconnected { .. } => "backend away".to_owned(),
        EventKind::BackendConnected => "backend back".to_owned(),
    };
    match &body.cause {
        Some(cause) => format!("{what} by {}", cause.request_id),
        None => what,
    }
}

fn exited(exit: &ExitStatus) -> String {
    let (run, code) = (exit.run, exit.code);
    match exit.reason {
        ExitReason::Exited | ExitReason::Signaled => format!("exited {run} with {code}"),
        ExitReason::OomKilled => format!("oom killed {run}"),
        ExitReason::TimedOut => format!("timed out {run}"),
        ExitReason::Lost => format!("lost {run}"),
    }
}
