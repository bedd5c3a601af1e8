//! Callers that are joined to processes, and that leave.

use std::sync::Arc;

use super::*;
use crate::engine::session::Session;
use crate::model::{Container, Exec, ExecId, ExecSpec, ExecState, OnDisconnect, State};

/// What is done to a process whose caller has left, by what the caller asked for.
const DONE: [(OnDisconnect, Option<Signal>); 4] = [
    (OnDisconnect::Detach, None),
    (OnDisconnect::HangUp, Some(Signal::HUP)),
    (OnDisconnect::Stop, Some(Signal::TERM)),
    (OnDisconnect::Kill, Some(Signal::KILL)),
];

fn tool() -> CreateExec {
    CreateExec {
        spec: ExecSpec {
            process: ProcessSpec {
                args: vec!["/bin/tool".to_owned()],
                ..ProcessSpec::default()
            },
            ..ExecSpec::default()
        },
        labels: TextMap::new(),
    }
}

fn attach(on_disconnect: OnDisconnect) -> Attach {
    Attach {
        stdin: false,
        output: Follow {
            stdout: Some(StartAt::Offset(0)),
            stderr: None,
        },
        on_disconnect,
        backpressure: Backpressure::DropOldest,
    }
}

impl Up {
    async fn run_exec(&self, name: &str, action: OnDisconnect) -> (ExecId, Session) {
        let session = self
            .engine
            .run_exec(call("exec"), name, tool(), attach(action))
            .await
            .unwrap();
        (session.attached.exec.unwrap(), session)
    }

    async fn run_container(&self, name: &str, action: OnDisconnect) -> (Arc<Container>, Session) {
        let run = self
            .engine
            .run_container(call("run"), request(name), attach(action));
        run.await.unwrap()
    }

    fn exec(&self, id: ExecId) -> Arc<Exec> {
        self.engine.exec(id).unwrap()
    }

    /// The last signal that an exec was sent.
    fn sent_to(&self, id: ExecId) -> Option<Signal> {
        self.exec(id).signaled.as_ref().map(|sent| sent.signal)
    }
}

#[test]
fn a_caller_that_leaves_while_its_exec_starts_has_done_what_it_asked_for() {
    for (action, signal) in DONE {
        World::new().run(async |up| {
            up.create_started("a").await;
            let hold = up.control.hold_next(Operation::StartExec);
            let (id, session) = up.run_exec("a", action).await;
            hold.reached().await;
            drop(session);
            up.quiet().await;
            assert_eq!(up.exec(id).state, ExecState::Starting);
            hold.release();
            up.quiet().await;
            assert_eq!(up.sent_to(id), signal, "{action:?}");
        });
    }
}

#[test]
fn a_caller_that_leaves_before_its_exec_has_begun_to_start_leaves_none() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, session) = up.run_exec("a", OnDisconnect::Kill).await;
        assert_eq!(up.exec(id).state, ExecState::Created);
        drop(session);
        up.quiet().await;
        assert_eq!(up.sent_to(id), Some(Signal::KILL));
        assert_eq!(up.exec(id).state, ExecState::Exited);
    });
}

#[test]
fn a_caller_that_leaves_before_it_is_known_whether_its_exec_started_leaves_none() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let lost = Fault::ActThenFail(unknown());
        up.control.inject(Operation::StartExec, When::Next, lost);
        let (id, session) = up.run_exec("a", OnDisconnect::Kill).await;
        drop(session);
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Starting);
        up.pass_until(|up| up.exec(id).state == ExecState::Exited)
            .await;
        assert_eq!(up.sent_to(id), Some(Signal::KILL));
    });
}

#[test]
fn a_caller_that_leaves_a_start_that_fails_leaves_nothing_to_do() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.control
            .fail_next(Operation::StartExec, no_such_program());
        let (id, session) = up.run_exec("a", OnDisconnect::Kill).await;
        drop(session);
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Failed);
        assert_eq!(up.sent_to(id), None);
    });
}

#[test]
fn a_caller_that_leaves_while_its_container_starts_has_done_what_it_asked_for() {
    for (action, signal) in DONE {
        World::new().run(async |up| {
            let hold = up.control.hold_next(Operation::Start);
            let (container, session) = up.run_container("a", action).await;
            hold.reached().await;
            drop(session);
            up.quiet().await;
            assert_eq!(up.state("a"), State::Starting);
            hold.release();
            up.quiet().await;
            let signals = up.control.signals(container.id);
            let ended = matches!(action, OnDisconnect::Stop | OnDisconnect::Kill);
            match ended {
                true => assert_eq!(up.state("a"), State::Exited, "{action:?}"),
                false => assert_eq!(signals, Vec::from_iter(signal), "{action:?}"),
            }
        });
    }
}
