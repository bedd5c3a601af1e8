//! Random calls, exits, faults, outages and crashes, against what must always hold.
//!
//! A seed that fails is named and can be run alone: `WHARF_TEST_SEED=17`. `WHARF_TEST_SEEDS=1000`
//! runs as many.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use super::*;
use crate::backend::fake::FakeControl;
use crate::backend::{FoundState, SignalScope};
use crate::model::{ContainerId, Event, EventKind, Sequence, State};
use crate::store::tests::all_events;

const SEEDS: u64 = 20;
const STEPS: usize = 70;
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The one of them that is deleted after its run.
const AUTO_DELETED: &str = "c";
const FALLIBLE: [Operation; 13] = [
    Operation::Create,
    Operation::Update,
    Operation::Start,
    Operation::Delete,
    Operation::DiscardTask,
    Operation::ForgetStart,
    Operation::Find,
    Operation::Inventory,
    Operation::Kill,
    Operation::Pause,
    Operation::Resume,
    Operation::UpdateTask,
    Operation::DeleteTask,
];

#[test]
fn whatever_happens_the_promises_hold() {
    let number = |name| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    match number("WHARF_TEST_SEED") {
        Some(seed) => play(seed),
        None => (0..number("WHARF_TEST_SEEDS").unwrap_or(SEEDS)).for_each(play),
    }
}

fn play(seed: u64) {
    let told = SeedTeller(seed);
    let mut play = Play {
        rng: StdRng::seed_from_u64(seed),
        world: World::new(),
        calls: Vec::new(),
        acknowledged: Vec::new(),
        number: 0,
        broken: false,
    };
    for _ in 0..STEPS {
        play.step();
        play.collect();
    }
    play.heal();
    play.end();
    drop(told);
}

/// Tells the seed of a play that fails.
struct SeedTeller(u64);

impl Drop for SeedTeller {
    #[expect(clippy::print_stderr, reason = "a failed test has nobody else to tell")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("WHARF_TEST_SEED={}", self.0);
        }
    }
}

struct Play {
    rng: StdRng,
    world: World,
    calls: Vec<JoinHandle<Option<Acknowledged>>>,
    acknowledged: Vec<Acknowledged>,
    number: u64,
    /// Whether the store fails.
    broken: bool,
}

/// What a caller was promised.
#[derive(Debug)]
enum Acknowledged {
    /// The container exists, by this request.
    Created(ContainerId, String),
    /// Nothing of this request exists.
    NotCreated(String),
    /// A run started, by this request.
    Started(ContainerId, String),
    /// The container's run is over.
    Stopped(ContainerId, Run),
    /// The container is gone.
    Deleted(ContainerId),
}

impl Play {
    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..60 => self.ask(),
            60..70 => self.exit(),
            70..80 => self.break_something(),
            80..83 => self.come_and_go(),
            83 => self.break_or_mend_store(),
            84..87 => self.crash(),
            _ => self.wait(),
        }
    }

    /// Somebody calls, and does not always stay for the answer.
    fn ask(&mut self) {
        self.number += 1;
        let request = format!("r{}", self.number);
        let name = *NAMES.choose(&mut self.rng).unwrap();
        let what = self.rng.random_range(0..14);
        let seconds = [0, 1, 20][self.rng.random_range(0..3)];
        let call = self
            .world
            .run(async |up| up.go(ask(up.clone(), name, request, what, seconds)).await);
        if self.rng.random_bool(0.9) {
            self.calls.push(call);
        } else {
            call.abort();
        }
    }

    fn exit(&mut self) {
        let control = self.world.control.clone();
        let tasks = control.tasks();
        let Some((id, _)) = tasks.choose(&mut self.rng) else {
            return control.exit_before_start_returns(WaitStatus::Exited(3));
        };
        let what = self.rng.random_range(0..11);
        self.world.run(async |up| {
            happen(&control, *id, what);
            up.quiet().await;
        });
    }

    fn break_something(&mut self) {
        let operation = *FALLIBLE.choose(&mut self.rng).unwrap();
        let fault = match self.rng.random_range(0..6) {
            0 => Fault::Fail(unknown()),
            1 | 2 => Fault::ActThenFail(unknown()),
            3 => Fault::Fail(unavailable(Applied::No)),
            4 => Fault::Fail(no_such_program()),
            _ => Fault::Delay(Duration::from_secs(3)),
        };
        self.world.control.inject(operation, When::Next, fault);
    }

    fn come_and_go(&mut self) {
        let goes = self.rng.random_bool(0.5);
        self.world.run(async |up| {
            if goes {
                up.control.disconnect();
            } else {
                up.control.connect();
            }
            up.quiet().await;
        });
    }

    fn break_or_mend_store(&mut self) {
        if std::mem::take(&mut self.broken) {
            return self.world.run(async |up| up.mend_commits());
        }
        let states = [
            "CREATING", "CREATED", "STARTING", "RUNNING", "STOPPING", "EXITED", "DELETING",
        ];
        let state = *states.choose(&mut self.rng).unwrap();
        self.world.run(async |up| up.break_commits(state));
        self.broken = true;
    }

    fn crash(&mut self) {
        // Nobody was answered.
        self.calls.clear();
        self.world.crash();
        self.world.boot_unready();
        self.world.run(async |up| up.pass_until(Up::is_ready).await);
    }

    fn wait(&mut self) {
        let time = Duration::from_millis(self.rng.random_range(1..6_000));
        self.world.run(async |up| up.pass(time).await);
    }

    /// Keeps what callers were told.
    fn collect(&mut self) {
        let (over, going): (Vec<_>, Vec<_>) = self.calls.drain(..).partition(|c| c.is_finished());
        self.calls = going;
        let acknowledged = &mut self.acknowledged;
        self.world.run(async |_| {
            for call in over {
                acknowledged.extend(call.await.unwrap());
            }
        });
    }

    /// The backend works again: whatever is under way comes to its end.
    fn heal(&mut self) {
        self.world.control.clear_faults();
        if self.broken {
            self.break_or_mend_store();
        }
        let calls = &self.calls;
        self.world.run(async |up| {
            up.control.connect();
            let answered = |_: &Up| calls.iter().all(JoinHandle::is_finished);
            up.pass_until(|up| answered(up) && is_settled(up)).await;
            check(up).await;
        });
        self.collect();
    }

    /// Everything is deleted, and nothing is left.
    fn end(&mut self) {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        self.world.run(async |up| {
            for name in NAMES {
                if !up.is_gone(name) {
                    delete(up, name).await;
                }
            }
            // A failed create may still be at its undoing, of which nobody else hears.
            up.pass_until(|up| up.engine.core.tasks.len() == IDLE_TASKS)
                .await;
            up.assert_empty().await;
            check_promises(up, &acknowledged).await;
        });
        self.world.crash_and_boot();
        self.world.run(async |up| up.assert_empty().await);
    }
}

/// Deletes a container that may be looked up at the moment.
async fn delete(up: &Up, name: &str) {
    loop {
        let delete = up.go(up.delete(name, "end", force())).await;
        up.pass_until(|_| delete.is_finished()).await;
        match delete.await.unwrap() {
            Err(Error::OperationInProgress { .. }) => up.pass(limits::CONFLICT_RETRY).await,
            result => return result.unwrap(),
        }
    }
}

async fn ask(
    up: Up,
    name: &'static str,
    request: String,
    what: u32,
    seconds: u64,
) -> Option<Acknowledged> {
    let Ok(target) = up.engine.get(name) else {
        return create(up, name, request, what.is_multiple_of(2)).await;
    };
    let id = target.id;
    let key = id.to_string();
    match what {
        0 | 1 => {
            let started = up.start(&key, &request).await.ok()?;
            return started
                .changed
                .then_some(Acknowledged::Started(id, request));
        }
        2 | 3 => {
            let stopped = up.stop(&key, &request, grace(seconds)).await.ok()?;
            let run = stopped.exit?.run;
            return stopped.changed.then_some(Acknowledged::Stopped(id, run));
        }
        4 => drop(up.restart(&key, call(&request), grace(seconds)).await),
        5 => drop(up.signal(&key, &request, "HUP").await),
        6 => drop(up.signal(&key, &request, "KILL").await),
        7 => drop(up.pause(&key, &request).await),
        8 => drop(up.resume(&key, &request).await),
        9 => {
            let labels = UpdateContainer {
                set_labels: TextMap::from([("by".to_owned(), request.clone())]),
                ..UpdateContainer::default()
            };
            drop(up.engine.update(cause(&request), &key, labels).await);
        }
        10 => {
            up.delete(&key, &request, plain()).await.ok()?;
            return Some(Acknowledged::Deleted(id));
        }
        11 => {
            let delete = DeleteContainer {
                grace_period: Duration::from_secs(seconds),
                ..force()
            };
            up.delete(&key, &request, delete).await.ok()?;
            return Some(Acknowledged::Deleted(id));
        }
        _ => drop(
            up.engine
                .signal(call(&request), &key, Signal::TERM, SignalScope::All, None)
                .await,
        ),
    }
    None
}

fn happen(control: &FakeControl, id: ContainerId, what: u32) {
    let _ = match what {
        0..5 => control.exit(id, WaitStatus::Exited(1)),
        5 | 6 => control.ignore_term(id),
        7 => control.oom(id),
        8 => control.oom_kill(id),
        9 => control.lose_task(id),
        _ => control.lose_container(id),
    };
}

async fn create(up: Up, name: &str, name_of_call: String, start: bool) -> Option<Acknowledged> {
    let create = CreateContainer {
        start,
        ..super::request(name)
    };
    let create = if name == AUTO_DELETED {
        auto_delete(create)
    } else {
        create
    };
    match up.engine.create(call(&name_of_call), create).await {
        Ok(answer) => Some(Acknowledged::Created(answer.value.id, name_of_call)),
        // With a start it may have happened all the same.
        Err(_) => (!start).then_some(Acknowledged::NotCreated(name_of_call)),
    }
}

/// Whether nothing is under way any more, and records and backend agree.
fn is_settled(up: &Up) -> bool {
    let containers = up.engine.list(&ContainerFilter::default(), None, 100);
    let tasks: BTreeMap<_, _> = up.control.tasks().into_iter().collect();
    let records = up.control.containers();
    let is_known = |id: &ContainerId| containers.iter().any(|container| container.id == *id);
    containers.iter().all(|container| {
        let has_record = records.contains(&container.id);
        agrees(container, tasks.get(&container.id), has_record)
    }) && tasks.keys().chain(&records).all(is_known)
}

/// Whether a container at rest is what the backend has.
fn agrees(container: &Container, task: Option<&FoundState>, has_record: bool) -> bool {
    match container.state {
        State::Running => has_record && task == Some(&FoundState::Running),
        State::Paused => has_record && task == Some(&FoundState::Paused),
        State::Created | State::Exited => has_record && task.is_none(),
        // What a run leaves behind goes with the container.
        State::Failed if matches!(task, Some(FoundState::Stopped(_))) => !container.has_open_run(),
        State::Failed => task.is_some() == container.has_open_run(),
        State::Creating
        | State::Starting
        | State::Stopping
        | State::BackingOff
        | State::Deleting => false,
    }
}

/// A container as its events tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    state: State,
    run: Run,
    /// Whether the run has begun and not ended.
    open: bool,
}

async fn tell(up: &Up) -> BTreeMap<ContainerId, Told> {
    let events = all_events(up.engine.journal()).await;
    let dense = (1..).take(events.len()).map(Sequence);
    assert!(events.iter().map(|e| e.sequence).eq(dense));
    let mut told = BTreeMap::new();
    for event in &events {
        let Some(subject) = &event.body.container else {
            continue;
        };
        let before = told.get(&subject.id).copied();
        let after = follow(before, event)
            .unwrap_or_else(|| panic!("{} after {before:?}", story::told(event)));
        told.insert(subject.id, after);
    }
    told
}

/// What a container is after an event; none if the event must not come then.
fn follow(before: Option<Told>, event: &Event) -> Option<Told> {
    let run = event.body.container.as_ref()?.run;
    let Some(before) = before else {
        let created = matches!(event.body.kind, EventKind::ContainerCreated);
        let first = Told {
            state: State::Created,
            run: Run(0),
            open: false,
        };
        return (created && run == Run(0)).then_some(first);
    };
    let Told { state, open, .. } = before;
    let is_next = run == before.run.next() && matches!(state, State::Created | State::Exited);
    let to = |allowed: bool, state, open| allowed.then_some(Told { state, run, open });
    let same = run == before.run && state != State::Deleting;
    match &event.body.kind {
        EventKind::ContainerStarted => to(is_next, State::Running, true),
        EventKind::ContainerStartFailed { .. } => is_next.then_some(before),
        EventKind::ContainerExited { exit } => {
            let after = if state == State::Failed {
                state
            } else {
                State::Exited
            };
            to(same && open && exit.run == run, after, false)
        }
        EventKind::ContainerStopping => {
            let may_stop = matches!(state, State::Running | State::Paused);
            to(same && may_stop, State::Stopping, open)
        }
        EventKind::ContainerPaused => to(same && state == State::Running, State::Paused, open),
        EventKind::ContainerResumed => to(same && state == State::Paused, State::Running, open),
        EventKind::ContainerSignaled { .. } | EventKind::ContainerOom => {
            to(same && open, state, open)
        }
        EventKind::ContainerUpdated { .. } => to(same, state, open),
        EventKind::ContainerFailed { .. } => {
            to(same && state != State::Failed, State::Failed, open)
        }
        EventKind::ContainerDeleted => to(same && !open, State::Deleting, open),
        _ => None,
    }
}

/// The state of each container is what its events add up to.
async fn check(up: &Up) {
    let told = tell(up).await;
    let containers = up.engine.list(&ContainerFilter::default(), None, 100);
    for container in &containers {
        let seen = Told {
            state: container.state,
            run: container.run,
            open: container.has_open_run(),
        };
        assert_eq!(told.get(&container.id), Some(&seen), "{}", container.name);
    }
    let live = |told: &&Told| told.state != State::Deleting;
    assert_eq!(told.values().filter(live).count(), containers.len());
}

/// What callers were told has come true, and what failed left nothing.
async fn check_promises(up: &Up, acknowledged: &[Acknowledged]) {
    let told = tell(up).await;
    assert!(told.values().all(|told| told.state == State::Deleting));
    let events = all_events(up.engine.journal()).await;
    let find = |id: Option<ContainerId>, what: &str, request: Option<&str>| {
        events.iter().any(|event| {
            let body = &event.body;
            let by = body.cause.as_ref().map(|cause| cause.request_id.as_str());
            id.is_none_or(|id| body.container.as_ref().is_some_and(|c| c.id == id))
                && story::told(event).starts_with(what)
                && request.is_none_or(|request| by == Some(request))
        })
    };
    for promise in acknowledged {
        let kept = match promise {
            Acknowledged::Created(id, request) => find(Some(*id), "created", Some(request)),
            Acknowledged::NotCreated(request) => !find(None, "created", Some(request)),
            Acknowledged::Started(id, request) => find(Some(*id), "started", Some(request)),
            Acknowledged::Stopped(id, run) => ["exited", "oom killed", "lost"]
                .iter()
                .any(|end| find(Some(*id), &format!("{end} {run}"), None)),
            Acknowledged::Deleted(id) => find(Some(*id), "deleted", None),
        };
        assert!(kept, "{promise:?}");
    }
}
