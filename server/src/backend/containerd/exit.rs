//! How containerd tells the end of a process, and what it means.

use std::time::SystemTime;

use containerd_client::events::{TaskDelete, TaskExit};
use containerd_client::services::v1::DeleteResponse;
use containerd_client::types::v1::Process;
use prost_types::Timestamp;

use crate::backend::WaitStatus;

/// What containerd reports when it does not know (`UnknownExitStatus` in its `client` package).
const UNKNOWN_STATUS: u32 = 255;

/// The end of a process in containerd's terms.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pid: u32,
    status: u32,
    time: Option<SystemTime>,
}

impl Ended {
    fn new(pid: u32, status: u32, time: Option<Timestamp>) -> Self {
        // Go's zero time is in the year 1: it means that there is none.
        let time = time.and_then(|time| SystemTime::try_from(time).ok());
        let time = time.filter(|time| *time > SystemTime::UNIX_EPOCH);
        Self { pid, status, time }
    }

    /// Of which process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// When; now, if containerd does not know.
    pub(super) fn time(&self) -> SystemTime {
        self.time.unwrap_or_else(SystemTime::now)
    }

    /// The wait status. The shim gives one number for both kinds of end, as shells do.
    pub(super) fn wait_status(&self) -> WaitStatus {
        if self.status == UNKNOWN_STATUS && self.time.is_none() {
            return WaitStatus::Lost;
        }
        let told = u8::try_from(self.status).map_or(WaitStatus::Lost, WaitStatus::Exited);
        told.of_program()
    }
}

impl From<TaskExit> for Ended {
    fn from(event: TaskExit) -> Self {
        Self::new(event.pid, event.exit_status, event.exited_at)
    }
}

impl From<TaskDelete> for Ended {
    fn from(event: TaskDelete) -> Self {
        Self::new(event.pid, event.exit_status, event.exited_at)
    }
}

impl From<DeleteResponse> for Ended {
    fn from(answer: DeleteResponse) -> Self {
        Self::new(answer.pid, answer.exit_status, answer.exited_at)
    }
}

impl From<&Process> for Ended {
    fn from(process: &Process) -> Self {
        Self::new(process.pid, process.exit_status, process.exited_at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::model::Signal;

    fn status(status: u32) -> WaitStatus {
        let time = Some(Timestamp {
            seconds: 1,
            nanos: 0,
        });
        Ended::new(7, status, time).wait_status()
    }

    #[test]
    fn a_status_above_128_is_a_signal_as_far_as_there_are_signals() {
        assert_eq!(status(0), WaitStatus::Exited(0));
        assert_eq!(status(128), WaitStatus::Exited(128));
        assert_eq!(status(137), WaitStatus::Signaled(Signal::KILL));
        assert_eq!(
            status(192),
            WaitStatus::Signaled(Signal::from_number(64).unwrap())
        );
        assert_eq!(status(193), WaitStatus::Exited(193));
        assert_eq!(status(255), WaitStatus::Exited(255));
    }

    #[test]
    fn an_unknown_status_without_a_time_is_lost() {
        let zero = Timestamp {
            seconds: -62_135_596_800,
            nanos: 0,
        };
        assert_eq!(
            Ended::new(7, 255, Some(zero)).wait_status(),
            WaitStatus::Lost
        );
        assert_eq!(Ended::new(7, 255, None).wait_status(), WaitStatus::Lost);
        assert_eq!(
            Ended::new(7, 4_294_967_295, None).wait_status(),
            WaitStatus::Lost
        );
    }
}
