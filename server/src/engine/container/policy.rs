//! What may be done to a container, by its state. Pure: no I/O, no clock, no locks.
//!
//! The table is the API's promise; `tests` below hold it cell by cell.

use crate::model::State;

/// Something asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Start the main process.
    Start,
    /// Signal, wait, kill.
    Stop,
    /// Stop and start.
    Restart,
    /// Send one signal.
    Signal,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Change name, labels or limits.
    Update,
    /// Remove, if it does not run.
    Delete,
    /// Remove, stopping it first if it runs.
    ForceDelete,
    /// List the processes inside.
    ListProcesses,
    /// Set the size of the terminal.
    Resize,
    /// Make or start a further process.
    Exec,
    /// Read or write files: in the root as its process sees it, or where there is none, alone.
    LendRoot,
}

impl Request {
    /// Every request.
    pub const ALL: [Self; 13] = [
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Signal,
        Self::Pause,
        Self::Resume,
        Self::Update,
        Self::Delete,
        Self::ForceDelete,
        Self::ListProcesses,
        Self::Resize,
        Self::Exec,
        Self::LendRoot,
    ];
}

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Do,
    /// It is so already: answer OK, change nothing.
    Already,
    /// The same thing is under way: answer when it is over.
    Join,
    /// Decide again when what is under way is over.
    Defer,
    /// Refuse.
    Refuse(Refusal),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It needs a process.
    NotRunning,
    /// It needs there to be no process.
    Running,
    /// It cannot act on a frozen container.
    Paused,
    /// Something else is under way.
    Busy,
    /// Control of the container was lost.
    ControlLost,
}

/// Decides.
#[must_use]
pub fn decide(state: State, request: Request) -> Decision {
    use Decision::{Already, Defer, Do, Join, Refuse};
    use Refusal::{Busy, ControlLost, NotRunning, Paused, Running};
    match request {
        Request::Start => match state {
            State::Created | State::Exited | State::BackingOff => Do,
            State::Running => Already,
            State::Starting => Defer,
            State::Paused => Refuse(Paused),
            State::Creating | State::Stopping | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Stop => match state {
            State::Running | State::Paused | State::BackingOff => Do,
            State::Created | State::Exited | State::Deleting | State::Failed => Already,
            State::Stopping => Join,
            State::Starting => Defer,
            State::Creating => Refuse(Busy),
        },
        Request::Restart => match state {
            State::Created | State::Exited | State::Running | State::Paused | State::BackingOff => {
                Do
            }
            State::Starting => Defer,
            State::Creating | State::Stopping | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Signal => match state {
            State::Running | State::Paused | State::Stopping => Do,
            State::Starting => Defer,
            State::Created | State::Exited | State::BackingOff | State::Deleting => {
                Refuse(NotRunning)
            }
            State::Creating => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Pause => match state {
            State::Running => Do,
            State::Paused => Already,
            State::Created | State::Exited | State::BackingOff => Refuse(NotRunning),
            State::Creating | State::Starting | State::Stopping | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Resume => match state {
            State::Paused => Do,
            State::Running | State::Stopping => Already,
            State::Created | State::Exited | State::BackingOff => Refuse(NotRunning),
            State::Creating | State::Starting | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Update => match state {
            State::Created | State::Exited | State::BackingOff | State::Running | State::Paused => {
                Do
            }
            State::Creating | State::Starting | State::Stopping | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
        Request::Delete => match state {
            State::Created | State::Exited | State::BackingOff | State::Failed => Do,
            State::Creating => Defer,
            State::Starting | State::Running | State::Paused | State::Stopping => Refuse(Running),
            State::Deleting => Join,
        },
        Request::ForceDelete => match state {
            State::Created
            | State::Exited
            | State::BackingOff
            | State::Failed
            | State::Running
            | State::Paused
            | State::Stopping => Do,
            State::Creating | State::Starting => Defer,
            State::Deleting => Join,
        },
        Request::ListProcesses => match state {
            State::Running | State::Paused | State::Stopping => Do,
            State::Starting => Defer,
            State::Created
            | State::Exited
            | State::BackingOff
            | State::Deleting
            | State::Failed => Refuse(NotRunning),
            State::Creating => Refuse(Busy),
        },
        Request::Resize => match state {
            State::Running | State::Paused | State::Stopping => Do,
            State::Creating | State::Starting => Refuse(Busy),
            State::Created | State::Exited | State::BackingOff | State::Deleting => {
                Refuse(NotRunning)
            }
            State::Failed => Refuse(ControlLost),
        },
        Request::Exec => match state {
            State::Running => Do,
            State::Paused => Refuse(Paused),
            State::Creating | State::Starting => Refuse(Busy),
            State::Created
            | State::Exited
            | State::Stopping
            | State::BackingOff
            | State::Deleting => Refuse(NotRunning),
            State::Failed => Refuse(ControlLost),
        },
        Request::LendRoot => match state {
            State::Created
            | State::Exited
            | State::BackingOff
            | State::Running
            | State::Paused
            | State::Stopping => Do,
            State::Starting => Defer,
            State::Creating | State::Deleting => Refuse(Busy),
            State::Failed => Refuse(ControlLost),
        },
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The states in the order of the table's columns.
    const COLUMNS: [State; 10] = [
        State::Creating,
        State::Created,
        State::Exited,
        State::Starting,
        State::Running,
        State::Paused,
        State::Stopping,
        State::BackingOff,
        State::Deleting,
        State::Failed,
    ];

    /// One row for each request: do, already, join, defer (`after`), or the refusal.
    const TABLE: &str = "
        Start         busy  do      do      after   already paused  busy    do      busy    lost
        Stop          busy  already already after   do      do      join    do      already already
        Restart       busy  do      do      after   do      do      busy    do      busy    lost
        Signal        busy  idle    idle    after   do      do      do      idle    idle    lost
        Pause         busy  idle    idle    busy    do      already busy    idle    busy    lost
        Resume        busy  idle    idle    busy    already do      already idle    busy    lost
        Update        busy  do      do      busy    do      do      busy    do      busy    lost
        Delete        after do      do      running running running running do      join    do
        ForceDelete   after do      do      after   do      do      do      do      join    do
        ListProcesses busy  idle    idle    after   do      do      do      idle    idle    idle
        Resize        busy  idle    idle    busy    do      do      do      idle    idle    lost
        Exec          busy  idle    idle    busy    do      paused  idle    idle    idle    lost
        LendRoot      busy  do      do      after   do      do      do      do      busy    lost
    ";

    fn cell(word: &str) -> Decision {
        match word {
            "do" => Decision::Do,
            "already" => Decision::Already,
            "join" => Decision::Join,
            "after" => Decision::Defer,
            "busy" => Decision::Refuse(Refusal::Busy),
            "idle" => Decision::Refuse(Refusal::NotRunning),
            "running" => Decision::Refuse(Refusal::Running),
            "paused" => Decision::Refuse(Refusal::Paused),
            "lost" => Decision::Refuse(Refusal::ControlLost),
            other => panic!("no such decision: {other}"),
        }
    }

    #[test]
    fn every_state_answers_every_request_as_the_table_says() {
        let rows: Vec<Vec<&str>> = TABLE
            .lines()
            .map(|row| row.split_whitespace().collect())
            .filter(|row: &Vec<_>| !row.is_empty())
            .collect();
        assert_eq!(rows.len(), Request::ALL.len());
        for (request, row) in Request::ALL.into_iter().zip(rows) {
            assert_eq!(row[0], format!("{request:?}"));
            assert_eq!(row.len(), COLUMNS.len() + 1);
            for (state, word) in COLUMNS.into_iter().zip(&row[1..]) {
                assert_eq!(decide(state, request), cell(word), "{request:?} in {state}");
            }
        }
    }

    fn any_state() -> impl Strategy<Value = State> {
        proptest::sample::select(State::ALL.to_vec())
    }

    fn any_request() -> impl Strategy<Value = Request> {
        proptest::sample::select(Request::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_container_can_be_deleted_from_every_state(state in any_state()) {
            prop_assert!(!matches!(decide(state, Request::ForceDelete), Decision::Refuse(_)));
        }

        #[test]
        fn force_never_refuses_what_a_plain_delete_does(state in any_state()) {
            if decide(state, Request::Delete) == Decision::Do {
                prop_assert_eq!(decide(state, Request::ForceDelete), Decision::Do);
            }
        }

        #[test]
        fn nothing_but_deletion_acts_on_a_container_out_of_control(request in any_request()) {
            let acts = decide(State::Failed, request) == Decision::Do;
            prop_assert_eq!(acts, matches!(request, Request::Delete | Request::ForceDelete));
        }

        #[test]
        fn what_acts_on_processes_is_done_only_where_there_is_one(state in any_state(), request in any_request()) {
            let needs_process = matches!(
                request,
                Request::Signal
                    | Request::Pause
                    | Request::Resume
                    | Request::ListProcesses
                    | Request::Resize
                    | Request::Exec
            );
            if needs_process && decide(state, request) == Decision::Do {
                prop_assert!(state.has_process());
            }
        }

        #[test]
        fn nothing_is_deferred_where_nothing_is_under_way(state in any_state(), request in any_request()) {
            if decide(state, request) == Decision::Defer {
                prop_assert!(matches!(state, State::Creating | State::Starting));
            }
        }
    }
}
