//! Execs whose backend fails, goes away, or is slow to answer.

use super::*;

use crate::model::exec::ExecSpec;
use crate::model::{Exec, ExecId, ExecState};

impl Up {
    async fn create_exec(&self, container: &str, spec: ExecSpec) -> ExecId {
        let create = CreateExec {
            spec,
            labels: TextMap::new(),
        };
        let created = self.engine.create_exec(call("exec"), container, create);
        created.await.unwrap().value.id
    }

    async fn create_started_exec(&self, container: &str, spec: ExecSpec) -> ExecId {
        let id = self.create_exec(container, spec).await;
        self.start_exec(id).await.unwrap();
        id
    }

    fn start_exec(
        &self,
        id: ExecId,
    ) -> impl Future<Output = Result<StartedExec, Error>> + Send + 'static + use<> {
        let engine = self.engine.clone();
        async move { engine.start_exec(cause("start"), id).await }
    }

    fn exec(&self, id: ExecId) -> Arc<Exec> {
        self.engine.exec(id).unwrap()
    }

    fn exec_state(&self, id: ExecId) -> ExecState {
        self.exec(id).state
    }
}

fn sleeper() -> ExecSpec {
    ExecSpec {
        process: ProcessSpec {
            args: vec!["/bin/sleep".to_owned()],
            ..ProcessSpec::default()
        },
        ..ExecSpec::default()
    }
}

#[test]
fn a_start_that_is_repeated_after_a_doubt_joins_the_process_that_runs() {
    World::new().run(async |up| {
        let container = up.create_started("a").await;
        let id = up.create_exec("a", sleeper()).await;
        up.control.inject(
            Operation::StartExec,
            When::Next,
            Fault::ActThenFail(unknown()),
        );
        assert_unavailable(up.start_exec(id).await, Applied::Unknown);
        let again = up.go(up.start_exec(id)).await;
        up.pass(limits::RETRY_FIRST).await;
        let started = again.await.unwrap().unwrap();
        assert_eq!(started.exec.state, ExecState::Running);
        assert!(up.control.exit_exec(id, WaitStatus::Exited(3)));
        up.quiet().await;
        assert_eq!(
            up.story(container).await[2..],
            [
                "exec created by exec",
                "exec started by start",
                "exec exited 1 with 3",
            ]
        );
    });
}

#[test]
fn a_start_that_is_repeated_after_a_doubt_is_refused_if_nothing_was_started() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_exec("a", sleeper()).await;
        up.control.fail_next(Operation::StartExec, unknown());
        assert_unavailable(up.start_exec(id).await, Applied::Unknown);
        let again = up.go(up.start_exec(id)).await;
        up.pass(limits::RETRY_FIRST).await;
        assert_refused!(
            again.await.unwrap(),
            Error::ExecNotRunning {
                state: ExecState::Failed,
                ..
            }
        );
        assert_eq!(up.exec_state(id), ExecState::Failed);
    });
}

#[test]
fn a_start_under_way_is_not_doubted_because_the_backend_came_back_meanwhile() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_exec("a", sleeper()).await;
        let hold = up.control.hold_next(Operation::StartExec);
        let start = up.go(up.start_exec(id)).await;
        up.control.disconnect();
        up.quiet().await;
        assert_unavailable(up.start_exec(id).await.map(drop), Applied::No);
        up.control.connect();
        up.quiet().await;
        assert_eq!(up.exec_state(id), ExecState::Starting);
        hold.release();
        assert!(start.await.unwrap().unwrap().changed);
    });
}

#[test]
fn an_exec_whose_holder_is_slow_to_answer_a_new_server_is_watched_once_it_does() {
    let mut world = World::new();
    let (container, id) = world.run(async |up| {
        let container = up.create_started("a").await;
        (container, up.create_started_exec("a", sleeper()).await)
    });
    world.crash();
    world.control.hide_exec(id);
    world.boot();
    world.run(async |up| {
        up.pass(Duration::from_secs(1)).await;
        assert_eq!(up.exec_state(id), ExecState::Running);
        up.control.show_exec(id);
        up.pass(limits::RETRY_MAX).await;
        assert!(up.control.exit_exec(id, WaitStatus::Exited(3)));
        up.quiet().await;
        assert_eq!(up.story(container).await[4..], ["exec exited 1 with 3"]);
    });
}

#[test]
fn a_start_in_doubt_whose_holder_is_slow_to_answer_is_not_told_before_it_does() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_exec("a", sleeper()).await;
        up.control.hide_exec(id);
        up.control.inject(
            Operation::StartExec,
            When::Next,
            Fault::ActThenFail(unknown()),
        );
        assert_unavailable(up.start_exec(id).await, Applied::Unknown);
        up.pass(Duration::from_secs(1)).await;
        assert_eq!(up.exec_state(id), ExecState::Starting);
        up.control.show_exec(id);
        up.pass(limits::RETRY_MAX).await;
        assert_ne!(up.exec(id).pid, Some(0));
        assert_eq!(up.exec_state(id), ExecState::Running);
    });
}
