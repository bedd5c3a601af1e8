//! Callers that are joined to processes, and that leave.

use std::future::Future;
use std::io::{ErrorKind, PipeReader, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::engine::leave::leave;
use crate::engine::session::{Input, Output, Session};
use crate::model::exec::Leash;
use crate::model::{Container, ExecId, ExecSpec, ExecState, OnDisconnect, State, TerminalSize};
use crate::stdio::Directories;
use crate::stdio::segment::{self, Writer};

const LIMITS: segment::Limits = segment::Limits {
    segment_bytes: 1 << 20,
    total_bytes: 1 << 22,
};

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

/// Whoever had streams when the server went has not come back by now.
const NOT_COME_BACK: Duration = limits::REATTACH_GRACE.saturating_add(Duration::from_secs(1));

impl Up {
    async fn attach_container(&self, name: &str, action: OnDisconnect) -> Session {
        let attached = self
            .engine
            .attach_container(cause("attach"), name, None, attach(action));
        attached.await.unwrap()
    }

    /// The server goes, and with it the session: nobody has left.
    fn cut(&self, session: Session) {
        self.engine.core.draining.cancel();
        drop(session);
    }
}

/// Starts a container without anybody, and sees that nothing becomes of it when the server is restarted.
fn assert_started_alone(mut world: World) {
    world.run(async |up| {
        up.start("a", "start").await.unwrap();
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.pass(NOT_COME_BACK).await;
        assert_eq!(up.state("a"), State::Running);
        assert_eq!(up.control.signals(up.get("a").id), []);
    });
}

#[test]
fn what_a_caller_asked_for_that_left_before_the_run_is_not_done_to_it() {
    for ran in [false, true] {
        let mut world = World::new();
        world.run(async |up| {
            up.create("a").await;
            if ran {
                up.start("a", "start").await.unwrap();
                up.exit("a", 0).await;
            }
            drop(up.attach_container("a", OnDisconnect::Stop).await);
            up.quiet().await;
        });
        assert_started_alone(world);
    }
}

#[test]
fn a_caller_that_waited_for_a_run_and_did_not_come_back_has_left() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("a").await;
        up.cut(up.attach_container("a", OnDisconnect::Stop).await);
    });
    world.crash_and_boot();
    world.run(async |up| up.pass(NOT_COME_BACK).await);
    assert_started_alone(world);
}

#[test]
fn a_caller_of_a_run_that_is_over_has_no_say_in_the_next_one() {
    let mut world = World::new();
    world.run(async |up| {
        let again = || {
            let call = keyed("run", "RunContainer", "key", 1);
            up.engine
                .run_container(call, request("a"), attach(OnDisconnect::Stop))
        };
        let first = again().await.unwrap();
        up.quiet().await;
        up.exit("a", 0).await;
        up.start("a", "start").await.unwrap();
        let second = up.attach_container("a", OnDisconnect::HangUp).await;
        drop((first, again().await.unwrap()));
        up.quiet().await;
        assert_eq!(up.control.signals(up.get("a").id), []);
        up.cut(second);
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.pass(NOT_COME_BACK).await;
        assert_eq!(up.control.signals(up.get("a").id), [Signal::HUP]);
    });
}

#[test]
fn a_caller_that_leaves_just_after_the_end_of_its_run_does_nothing_to_the_next_one() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.exit("a", 0).await;
        let hold = up.control.hold_next(Operation::Start);
        drop(up.go(up.starting("a", call("start"))).await);
        hold.reached().await;
        for action in [OnDisconnect::Stop, OnDisconnect::HangUp] {
            let leash = Leash {
                action,
                cause: cause("left"),
                run: Run(1),
                joining: 0,
            };
            leave(&up.engine.core, id, None, leash, None);
        }
        up.quiet().await;
        hold.release();
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        assert_eq!(up.control.signals(id), []);
    });
}

#[test]
fn what_a_process_survives_is_done_to_it_once() {
    for cut in [false, true] {
        let mut world = World::new();
        world.run(async |up| {
            up.create_started("a").await;
            let session = up.attach_container("a", OnDisconnect::HangUp).await;
            match cut {
                true => up.cut(session),
                false => drop(session),
            }
            up.quiet().await;
        });
        for _ in 0..2 {
            world.crash_and_boot();
            world.run(async |up| {
                up.pass(NOT_COME_BACK).await;
                assert_eq!(up.control.signals(up.get("a").id), [Signal::HUP]);
            });
        }
    }
}

#[test]
fn a_caller_that_starts_an_exec_by_attaching_is_missed_after_a_restart_too() {
    let mut world = World::new();
    let id = world.run(async |up| {
        up.create_started("a").await;
        let created = up.engine.create_exec(call("create"), "a", tool()).await;
        let id = created.unwrap().value.id;
        let session = up
            .engine
            .attach_exec(cause("attach"), id, attach(OnDisconnect::Kill));
        let session = session.await.unwrap();
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Running);
        up.cut(session);
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        assert_eq!(up.exec(id).state, ExecState::Running);
        up.pass(NOT_COME_BACK).await;
        assert_eq!(up.exec(id).state, ExecState::Exited);
        assert_eq!(up.sent_to(id), Some(Signal::KILL));
    });
}

#[test]
fn who_detaches_lets_go_of_what_was_asked_for_and_of_nothing_else() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
        let first = up.attach_container("a", OnDisconnect::Stop).await;
        let second = up.attach_container("a", OnDisconnect::HangUp).await;
        first.input.send(Input::Detach).await.unwrap();
        drop(first);
        up.quiet().await;
        up.cut(second);
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.pass(NOT_COME_BACK).await;
        assert_eq!(up.control.signals(up.get("a").id), [Signal::HUP]);
    });
}

#[test]
fn a_failure_of_the_servers_own_is_no_leaving() {
    World::new().run(async |up| {
        let container = up.create_started("a").await;
        let (id, mut session) = up.run_exec("a", OnDisconnect::Kill).await;
        up.quiet().await;
        let recording = up.engine.core.exec_dir(container, id);
        std::fs::create_dir_all(recording.parent().unwrap()).unwrap();
        std::fs::write(&recording, "no directory").unwrap();
        assert!(matches!(
            session.output.next().await,
            Ok(Some(Output::Started { .. }))
        ));
        assert_refused!(session.output.next().await, Error::Store(_));
        drop(session);
        up.quiet().await;
        assert_eq!(up.sent_to(id), None);
        assert_eq!(up.exec(id).leash, None, "nor is it one after a restart");
    });
}

#[test]
fn input_that_the_server_fails_to_pass_on_is_no_leaving() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, session) = up.run_exec("a", OnDisconnect::Kill).await;
        up.quiet().await;
        up.control
            .fail_next(Operation::KillExec, unavailable(Applied::No));
        assert_unavailable(
            session.input.send(Input::Signal(Signal::HUP)).await,
            Applied::No,
        );
        drop(session);
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Running);
        assert_eq!(up.exec(id).leash, None, "nor is it one after a restart");
    });
}

#[test]
fn a_caller_that_is_not_let_in_does_not_leave() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.break_commits("RUNNING");
        let refused =
            up.engine
                .attach_container(cause("attach"), "a", None, attach(OnDisconnect::Stop));
        assert_refused!(refused.await, Error::Store(_));
        up.mend_commits();
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        assert_eq!(up.control.signals(id), []);
    });
}

#[test]
fn a_caller_that_sends_what_it_must_not_leaves() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let size = TerminalSize {
            rows: 24,
            columns: 80,
        };
        for wrong in [Input::Stdin(Bytes::from("x")), Input::Resize(size)] {
            let (id, session) = up.run_exec("a", OnDisconnect::Kill).await;
            up.quiet().await;
            session.input.send(wrong.clone()).await.unwrap_err();
            drop(session);
            up.quiet().await;
            assert_eq!(up.sent_to(id), Some(Signal::KILL), "{wrong:?}");
        }
    });
}

#[test]
fn a_repeat_that_joins_before_the_start_is_over_keeps_the_process() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let again = || {
            let call = keyed("exec", "RunExec", "key", 1);
            up.engine
                .run_exec(call, "a", tool(), attach(OnDisconnect::Kill))
        };
        let hold = up.control.hold_next(Operation::StartExec);
        drop(again().await.unwrap());
        let second = again().await.unwrap();
        let id = second.attached.exec.unwrap();
        hold.release();
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Running);
        assert_eq!(up.sent_to(id), None);
        drop(second);
        up.quiet().await;
        assert_eq!(up.sent_to(id), Some(Signal::KILL));
    });
}

impl Up {
    /// Runs a container for a caller that leaves while it is created.
    async fn run_and_leave(&self, call: Call, action: OnDisconnect) {
        let hold = self.control.hold_next(Operation::Create);
        let engine = self.engine.clone();
        let going = self
            .go(async move {
                let run = engine.run_container(call, auto_delete(request("a")), attach(action));
                run.await.map(drop)
            })
            .await;
        hold.reached().await;
        going.abort();
        drop(going.await);
        hold.release();
    }
}

#[test]
fn a_caller_that_leaves_while_its_container_is_created_has_done_what_it_asked_for() {
    World::new().run(async |up| {
        up.run_and_leave(call("run"), OnDisconnect::Stop).await;
        up.quiet().await;
        assert!(up.is_gone("a"));
        up.assert_empty().await;
        up.run_and_leave(call("run"), OnDisconnect::Detach).await;
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
    });
}

#[test]
fn a_repeat_finds_the_container_of_a_first_call_that_was_cut_off() {
    World::new().run(async |up| {
        let keyed = || keyed("run", "RunContainer", "key", 1);
        let start = up.control.hold_next(Operation::Start);
        up.run_and_leave(keyed(), OnDisconnect::Stop).await;
        let create = auto_delete(request("a"));
        let again = up
            .engine
            .run_container(keyed(), create, attach(OnDisconnect::Stop));
        let (container, session) = again.await.unwrap();
        start.release();
        up.quiet().await;
        assert_eq!(up.get("a").id, container.id);
        assert_eq!(up.state("a"), State::Running);
        drop(session);
        up.quiet().await;
        assert!(up.is_gone("a"));
    });
}

#[test]
fn nothing_remains_of_a_container_whose_caller_could_not_be_joined_to_it() {
    World::new().run(async |up| {
        up.break_leashes();
        let run = up
            .engine
            .run_container(call("run"), request("a"), attach(OnDisconnect::Stop));
        assert_refused!(run.await, Error::Store(_));
        up.mend_commits();
        up.assert_empty().await;
    });
}

/// The other end of a process's input.
struct Stdin(PipeReader);

impl Stdin {
    /// What was written since the last look, and whether the input has ended.
    async fn take(&mut self, up: &Up) -> (Vec<u8>, bool) {
        let mut taken = Vec::new();
        let mut quiet = false;
        loop {
            let mut buffer = vec![0; 1 << 16];
            match self.0.read(&mut buffer) {
                Ok(0) => return (taken, true),
                Ok(read) => {
                    taken.extend_from_slice(&buffer[..read]);
                    quiet = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && !quiet => {
                    up.quiet().await;
                    quiet = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (taken, false),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Up {
    /// Gives an exec an input, as its start does where there is a keeper.
    fn give_input(&self, id: ExecId) -> Stdin {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let stream = self.engine.core.exec_stream(&self.exec(id));
        stream.give_input(writer.into());
        Stdin(reader)
    }

    fn only_exec(&self) -> ExecId {
        let execs = self.engine.execs(None, None, 2).unwrap();
        assert_eq!(execs.len(), 1);
        execs[0].id
    }

    async fn kill_exec(&self, id: ExecId) {
        let killed = self.engine.signal_exec(call("kill"), id, Signal::KILL);
        killed.await.unwrap();
        self.quiet().await;
    }

    fn exec_sync(
        &self,
        stdin: &[u8],
    ) -> impl Future<Output = Result<Answer<ExecOutput>, Error>> + Send + 'static + use<> {
        let engine = self.engine.clone();
        let sync = ExecSync {
            create: tool(),
            stdin: Bytes::copy_from_slice(stdin),
            max_output: 1 << 16,
        };
        let call = keyed("sync", "ExecSync", "key", 1);
        async move { engine.exec_sync(call, "a", sync).await }
    }
}

/// More than a pipe holds.
fn long_input() -> Vec<u8> {
    (0..300_000u32)
        .flat_map(u32::to_ne_bytes)
        .take(300 << 10)
        .collect()
}

#[test]
fn an_exec_gets_its_whole_input_once_though_its_caller_leaves_and_two_repeats_come() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let whole = long_input();
        let hold = up.control.hold_next(Operation::StartExec);
        let first = up.go(up.exec_sync(&whole)).await;
        hold.reached().await;
        let id = up.only_exec();
        let mut stdin = up.give_input(id);
        let early = up.go(up.exec_sync(&whole)).await;
        hold.release();
        up.quiet().await;
        first.abort();
        drop(first.await);
        let late = up.go(up.exec_sync(&whole)).await;
        let (fed, ended) = stdin.take(up).await;
        assert!(fed == whole, "{} of {} bytes", fed.len(), whole.len());
        assert!(ended);
        up.kill_exec(id).await;
        for repeat in [early, late] {
            let answer = repeat.await.unwrap().unwrap();
            assert!(answer.replayed && answer.value.exec == id);
        }
    });
}

#[test]
fn an_exec_whose_start_was_in_doubt_gets_its_whole_input_once_it_runs() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let lost = Fault::ActThenFail(unknown());
        up.control.inject(Operation::StartExec, When::Next, lost);
        let first = up.go(up.exec_sync(b"whole")).await;
        assert!(first.await.unwrap().is_err());
        let id = up.only_exec();
        assert_eq!(up.exec(id).state, ExecState::Starting);
        let mut stdin = up.give_input(id);
        // As the keeper does.
        let _kept = up.engine.core.exec_stream(&up.exec(id));
        let repeat = up.go(up.exec_sync(b"whole")).await;
        up.pass_until(|up| up.exec(id).state == ExecState::Running)
            .await;
        assert_eq!(stdin.take(up).await, (b"whole".to_vec(), true));
        up.kill_exec(id).await;
        assert_eq!(repeat.await.unwrap().unwrap().value.exec, id);
    });
}

#[test]
fn who_attaches_and_stays_keeps_nobody_elses_process() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, mut session) = up.run_exec("a", OnDisconnect::Kill).await;
        up.quiet().await;
        let started = session.output.next().await.unwrap();
        assert!(matches!(started, Some(Output::Started { .. })));
        let watching = attach(OnDisconnect::Detach);
        let watches = up.engine.attach_exec(cause("watch"), id, watching).await;
        drop(session);
        up.quiet().await;
        assert_eq!(up.sent_to(id), Some(Signal::KILL));
        drop(watches);
    });
}

#[test]
fn who_has_read_further_than_the_keeper_has_told_may_come_back_to_there() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, mut session) = up.run_exec("a", OnDisconnect::Detach).await;
        up.quiet().await;
        let directories = Directories::below(&up.engine.core.settings.state_dir);
        let directory = directories.exec(session.attached.container, id);
        let mut writer = Writer::open(&directory, 0, LIMITS, 1).unwrap();
        let now = crate::stdio::segment::now();
        writer.append(now, segment::Output::Stdout, b"one").unwrap();
        // The keeper of this world never tells of it.
        let started = session.output.next().await.unwrap();
        assert!(matches!(started, Some(Output::Started { .. })));
        let read = session.output.next().await.unwrap();
        assert!(matches!(read, Some(Output::Chunk { data, .. }) if data == "one"));
        let from = |offset| Attach {
            output: Follow {
                stdout: Some(StartAt::Offset(offset)),
                stderr: None,
            },
            ..attach(OnDisconnect::Detach)
        };
        let again = up.engine.attach_exec(cause("again"), id, from(3)).await;
        again.unwrap();
        let past = up.engine.attach_exec(cause("past"), id, from(4)).await;
        assert!(matches!(past, Err(Error::InvalidField { .. })));
    });
}

#[test]
fn an_input_that_the_servers_end_has_cut_off_is_neither_repeated_nor_ended() {
    let mut world = World::new();
    let id = world.run(async |up| {
        up.create_started("a").await;
        let hold = up.control.hold_next(Operation::StartExec);
        drop(up.go(up.exec_sync(&long_input())).await);
        hold.reached().await;
        let id = up.only_exec();
        std::mem::forget(up.give_input(id));
        hold.release();
        up.quiet().await;
        assert_eq!(up.exec(id).state, ExecState::Running);
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        let mut stdin = up.give_input(id);
        let repeat = up.go(up.exec_sync(&long_input())).await;
        assert_eq!(stdin.take(up).await, (Vec::new(), false));
        up.kill_exec(id).await;
        assert_eq!(repeat.await.unwrap().unwrap().value.exec, id);
    });
}

impl Up {
    /// An exec whose input is full.
    async fn stuffed(&self) -> (ExecId, Stdin) {
        let mut create = tool();
        create.spec.stdin_open = true;
        let created = self.engine.create_exec(call("create"), "a", create).await;
        let id = created.unwrap().value.id;
        self.engine.start_exec(cause("start"), id).await.unwrap();
        let stdin = self.give_input(id);
        let full = self.write(call("fill"), id, &[b'.'; 60 << 10]).await;
        full.unwrap();
        (id, stdin)
    }

    fn write(
        &self,
        call: Call,
        id: ExecId,
        data: &[u8],
    ) -> impl Future<Output = Result<Answer<()>, Error>> + Send + 'static + use<> {
        let (engine, data) = (self.engine.clone(), Bytes::copy_from_slice(data));
        async move {
            let target = Target::Exec(id);
            engine.write_stdin(call, target, data, false).await
        }
    }
}

fn write_call(request: &str, key: &str) -> Call {
    keyed(request, "WriteStdin", key, 1)
}

#[test]
fn a_write_with_a_key_is_done_once_and_whole_though_its_caller_leaves() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, mut stdin) = up.stuffed().await;
        let data = &long_input()[..64 << 10];
        let first = up.go(up.write(write_call("one", "key"), id, data)).await;
        first.abort();
        drop(first.await);
        let hasty = Call {
            deadline: Some(tokio::time::Instant::now() + Duration::from_secs(1)),
            ..write_call("two", "key")
        };
        let hasty = up.go(up.write(hasty, id, data)).await;
        up.pass(Duration::from_secs(1)).await;
        assert_refused!(
            hasty.await.unwrap(),
            Error::IdempotentRequestInProgress { first_request_id, .. } if first_request_id == "one"
        );
        let repeat = up.go(up.write(write_call("three", "key"), id, data)).await;
        assert!(!repeat.is_finished(), "not before all is written");
        let (fed, _) = stdin.take(up).await;
        assert!(fed[60 << 10..] == *data);
        assert!(repeat.await.unwrap().unwrap().replayed);
        assert_eq!(stdin.take(up).await, (Vec::new(), false));
    });
}

#[test]
fn a_process_that_does_not_read_keeps_one_write_waiting_and_its_end_lets_it_go() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let (id, _stdin) = up.stuffed().await;
        let before = up.engine.core.tasks.len();
        for key in ["one", "two", "three"] {
            let write = up.write(write_call(key, key), id, &[b'x'; 64 << 10]);
            let going = up.go(write).await;
            going.abort();
            drop(going.await);
        }
        assert_eq!(up.engine.core.tasks.len(), before + 1);
        up.kill_exec(id).await;
        assert_eq!(up.engine.core.tasks.len(), before);
    });
}

#[test]
fn a_repeat_of_a_write_that_the_servers_end_has_cut_off_is_refused_and_writes_nothing() {
    let mut world = World::new();
    let data = [b'x'; 64 << 10];
    let id = world.run(async |up| {
        up.create_started("a").await;
        let (id, stdin) = up.stuffed().await;
        drop(up.go(up.write(write_call("one", "key"), id, &data)).await);
        std::mem::forget(stdin);
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        let mut stdin = up.give_input(id);
        assert_refused!(
            up.write(write_call("two", "key"), id, &data).await,
            Error::IdempotentRequestInProgress { first_request_id, .. } if first_request_id == "one"
        );
        assert_eq!(stdin.take(up).await, (Vec::new(), false));
        up.write(write_call("three", "other"), id, b"more")
            .await
            .unwrap();
        assert_eq!(stdin.take(up).await.0, b"more");
    });
}
