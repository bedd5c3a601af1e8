//! Execs whose backend fails, goes away, or is slow to answer.

use super::*;

use crate::engine::container::command::{Early, Order, ResizeOrder};
use crate::engine::container::execs::ExecOrder;
use crate::model::exec::ExecSpec;
use crate::model::{ExecId, ExecState, State, TerminalSize};

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

    fn delete_exec(
        &self,
        id: ExecId,
        request: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (engine, cause) = (self.engine.clone(), cause(request));
        async move { engine.delete_exec(cause, id, true).await }
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

fn limited(limit: Duration) -> ExecSpec {
    ExecSpec {
        timeout: Some(limit),
        ..sleeper()
    }
}

const SMALL: TerminalSize = TerminalSize {
    rows: 24,
    columns: 80,
};

const LARGE: TerminalSize = TerminalSize {
    rows: 50,
    columns: 132,
};

fn with_terminal() -> ProcessSpec {
    ProcessSpec {
        terminal: Some(SMALL),
        ..sleeper().process
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

#[test]
fn an_exec_whose_time_is_over_while_the_backend_is_away_is_killed_when_it_is_back() {
    World::new().run(async |up| {
        let container = up.create_started("a").await;
        let id = up
            .create_started_exec("a", limited(Duration::from_secs(10)))
            .await;
        up.control.disconnect();
        up.pass(Duration::from_secs(10)).await;
        assert_eq!(up.exec_state(id), ExecState::Running);
        up.control.connect();
        up.pass_until(|up| up.exec_state(id) == ExecState::Exited)
            .await;
        assert_eq!(up.story(container).await[4..], ["exec timed out 1"]);
    });
}

#[test]
fn a_forced_deletion_of_an_exec_kills_it_however_often_that_fails() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_started_exec("a", sleeper()).await;
        for nth in 1..=3 {
            let fault = Fault::Fail(unavailable(Applied::No));
            up.control
                .inject(Operation::KillExec, When::Nth(nth), fault);
        }
        let delete = up.go(up.delete_exec(id, "one")).await;
        let joined = up.go(up.delete_exec(id, "two")).await;
        up.pass_until(|up| up.engine.exec(id).is_err()).await;
        delete.await.unwrap().unwrap();
        joined.await.unwrap().unwrap();
        assert_eq!(up.control.calls(Operation::KillExec), 4);
    });
}

#[test]
fn a_forced_deletion_of_an_exec_is_refused_while_the_backend_is_away() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_started_exec("a", sleeper()).await;
        up.control.disconnect();
        assert_unavailable(up.delete_exec(id, "delete").await, Applied::No);
        up.control.connect();
        up.quiet().await;
        assert_eq!(up.control.exec_signals(id), []);
        up.delete_exec(id, "again").await.unwrap();
    });
}

#[test]
fn an_exec_that_is_deleted_before_a_new_server_has_found_it_is_killed_then() {
    let mut world = World::new();
    let id = world.run(async |up| {
        up.create_started("a").await;
        up.create_started_exec("a", sleeper()).await
    });
    world.crash();
    world.control.hide_exec(id);
    world.boot();
    world.run(async |up| {
        let delete = up.go(up.delete_exec(id, "delete")).await;
        up.control.show_exec(id);
        up.pass(limits::RETRY_MAX).await;
        delete.await.unwrap().unwrap();
    });
}

#[test]
fn an_exec_that_ended_by_itself_before_its_container_while_the_backend_was_away_keeps_its_code() {
    World::new().run(async |up| {
        let container = up.create_started("a").await;
        let ended = up.create_started_exec("a", sleeper()).await;
        let hidden = up.create_started_exec("a", sleeper()).await;
        up.control.disconnect();
        up.quiet().await;
        up.control.hide_exec(hidden);
        assert!(up.control.exit_exec(ended, WaitStatus::Exited(0)));
        assert!(up.control.exit(container, WaitStatus::Exited(5)));
        up.control.connect();
        up.pass_until(|up| up.state("a") == State::Exited).await;
        assert_eq!(
            up.story(container).await[6..],
            [
                "exec exited 1 with 0",
                // Nobody could tell, but nothing outlives its container.
                "exec exited 1 with 137",
                "exited 1 with 5",
            ]
        );
    });
}

#[test]
fn a_size_that_comes_while_an_exec_starts_is_set_once_it_runs() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let spec = ExecSpec {
            process: with_terminal(),
            ..sleeper()
        };
        let id = up.create_exec("a", spec.clone()).await;
        let hold = up.control.hold_next(Operation::StartExec);
        let start = up.go(up.start_exec(id)).await;
        up.engine.resize_exec(id, LARGE).await.unwrap();
        hold.release();
        start.await.unwrap().unwrap();
        up.quiet().await;
        assert_eq!(up.control.exec_sizes(id), [LARGE]);

        // One that comes before the start is the start's.
        let id = up.create_exec("a", spec).await;
        up.engine.resize_exec(id, LARGE).await.unwrap();
        up.start_exec(id).await.unwrap();
        up.quiet().await;
        assert_eq!(up.control.exec_sizes(id), []);
    });
}

#[test]
fn a_size_that_comes_while_a_container_starts_is_set_once_it_runs() {
    World::new().run(async |up| {
        let mut create = request("a");
        create.spec.process.terminal = Some(SMALL);
        let id = up.make(create).await.id;
        let resize = async |size| {
            let order = |reply| {
                Order::Resize(ResizeOrder {
                    size,
                    early: Early::Keep,
                    expected_run: None,
                    reply,
                })
            };
            up.engine.core.ask("a", order).await.unwrap();
        };
        resize(LARGE).await;
        let hold = up.control.hold_next(Operation::Start);
        let start = up.go(up.starting("a", call("start"))).await;
        resize(SMALL).await;
        hold.release();
        start.await.unwrap().unwrap();
        up.quiet().await;
        assert_eq!(up.control.start_of(id).unwrap().terminal_size, Some(LARGE));
        assert_eq!(up.control.sizes(id), [SMALL]);

        up.stop("a", "stop", grace(0)).await.unwrap();
        up.start("a", "again").await.unwrap();
        up.quiet().await;
        assert_eq!(up.control.start_of(id).unwrap().terminal_size, Some(SMALL));
        assert_eq!(up.control.sizes(id), []);
    });
}

#[test]
fn who_sees_that_an_exec_was_created_finds_it() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let newest = up.engine.journal().newest();
        let before = *newest.borrow();
        // Nothing is stored until the lock is let go of.
        let lock = up.lock_store();
        let spec = sleeper();
        let labels = TextMap::new();
        let engine = up.engine.clone();
        let create = CreateExec { spec, labels };
        let created = up
            .calls
            .spawn(async move { engine.create_exec(call("exec"), "a", create).await });
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        drop(lock);
        // The actor has no turn meanwhile.
        let began = std::time::Instant::now();
        while *newest.borrow() == before {
            assert!(began.elapsed() < Duration::from_secs(30), "no event came");
            std::thread::yield_now();
        }
        assert_eq!(up.engine.execs(Some("a"), None, 10).unwrap().len(), 1);
        created.await.unwrap().unwrap();
    });
}

#[test]
fn an_end_of_input_that_the_backend_did_not_take_is_told_to_it_again() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let id = up.create_started_exec("a", sleeper()).await;
        let close = async |exec: Option<ExecId>| {
            let order = |reply| match exec {
                Some(id) => Order::Exec(ExecOrder::CloseStdin { id, reply }),
                None => Order::CloseStdin {
                    expected_run: None,
                    reply,
                },
            };
            up.engine.core.ask("a", order).await
        };
        for subject in [Some(id), None] {
            let before = up.control.calls(Operation::CloseStdin);
            up.control
                .fail_next(Operation::CloseStdin, unavailable(Applied::No));
            assert_unavailable(close(subject).await, Applied::No);
            close(subject).await.unwrap();
            assert_eq!(up.control.calls(Operation::CloseStdin), before + 2);
        }
    });
}
