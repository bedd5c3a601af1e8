#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use crate::backend::{FoundState, WaitStatus};
use crate::model::{Run, samples};

const UNAVAILABLE: BackendError = BackendError::Unavailable {
    backend: "fake",
    detail: String::new(),
    applied: Applied::Unknown,
};

fn container() -> Container {
    samples::container(samples::spec())
}

async fn started(fake: &Fake) -> (ContainerId, FakeTask) {
    let container = container();
    fake.create(&container).await.unwrap();
    let id = container.id;
    let task = fake.start(start(container)).await.unwrap();
    (id, task)
}

fn start(container: Container) -> Start {
    Start {
        container: Arc::new(container),
        run: Run(1),
        stdio: crate::model::StdioPaths::null(),
        terminal_size: None,
        network_pid: None,
    }
}

fn status(task: &FakeTask) -> Option<WaitStatus> {
    task.exit().borrow().as_ref().map(|exit| exit.status)
}

#[tokio::test]
async fn a_process_ends_by_term_unless_it_ignores_it() {
    let (fake, control) = Fake::new();
    let (id, task) = started(&fake).await;
    assert!(control.ignore_term(id));
    task.kill(Signal::TERM, SignalScope::Main).await.unwrap();
    assert_eq!(status(&task), None);
    task.kill(Signal::KILL, SignalScope::All).await.unwrap();
    assert_eq!(status(&task), Some(WaitStatus::Signaled(Signal::KILL)));
    assert_eq!(control.signals(id), [Signal::TERM, Signal::KILL]);
    let refused = task.kill(Signal::KILL, SignalScope::Main).await;
    assert!(matches!(
        refused,
        Err(BackendError::NotFound {
            backend: "fake",
            what: "process"
        })
    ));
}

#[tokio::test]
async fn signals_to_a_frozen_process_wait_for_its_thaw() {
    let (fake, _control) = Fake::new();
    let (_, task) = started(&fake).await;
    task.pause().await.unwrap();
    task.kill(Signal::TERM, SignalScope::Main).await.unwrap();
    assert_eq!(status(&task), None);
    task.resume().await.unwrap();
    assert_eq!(status(&task), Some(WaitStatus::Signaled(Signal::TERM)));
}

#[tokio::test]
async fn the_nth_call_fails_and_only_that() {
    let (fake, control) = Fake::new();
    control.inject(Operation::Find, When::Nth(2), Fault::Fail(UNAVAILABLE));
    let id = ContainerId::generate();
    assert!(fake.find(id).await.is_ok());
    assert!(fake.find(id).await.is_err());
    assert!(fake.find(id).await.is_ok());
    assert_eq!(control.calls(Operation::Find), 3);
}

#[tokio::test]
async fn a_lost_answer_leaves_what_was_done() {
    let (fake, control) = Fake::new();
    control.inject(
        Operation::Create,
        When::Next,
        Fault::ActThenFail(UNAVAILABLE),
    );
    let container = container();
    assert!(fake.create(&container).await.is_err());
    assert_eq!(control.containers(), [container.id]);
}

#[tokio::test]
async fn a_held_call_goes_on_when_released() {
    let (fake, control) = Fake::new();
    let hold = control.hold_next(Operation::Inventory);
    let mut call = std::pin::pin!(fake.inventory());
    tokio::select! {
        _ = &mut call => panic!("it was held"),
        () = hold.reached() => {}
    }
    hold.release();
    timeout(Duration::from_secs(5), call)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_by_tokios_clock() {
    let (fake, control) = Fake::new();
    let hour = Duration::from_secs(3600);
    control.inject(Operation::Find, When::Always, Fault::Delay(hour));
    let before = Instant::now();
    fake.find(ContainerId::generate()).await.unwrap();
    assert_eq!(before.elapsed(), hour);
    control.clear_faults();
    fake.find(ContainerId::generate()).await.unwrap();
    assert_eq!(before.elapsed(), hour);
}

#[tokio::test]
async fn what_happens_while_disconnected_is_seen_before_connected() {
    let (fake, control) = Fake::new();
    let (ended, task) = started(&fake).await;
    let (lost, other) = started(&fake).await;
    control.disconnect();
    assert!(control.exit(ended, WaitStatus::Exited(4)));
    assert!(control.lose_task(lost));
    assert_eq!(status(&task), None);
    assert!(matches!(
        fake.find(ended).await,
        Err(BackendError::Unavailable {
            applied: Applied::No,
            ..
        })
    ));
    control.connect();
    assert_eq!(status(&task), Some(WaitStatus::Exited(4)));
    assert_eq!(status(&other), Some(WaitStatus::Lost));
}

#[tokio::test]
async fn an_exit_can_come_before_start_returns() {
    let (fake, control) = Fake::new();
    control.exit_before_start_returns(WaitStatus::Exited(9));
    let (_, task) = started(&fake).await;
    assert_eq!(status(&task), Some(WaitStatus::Exited(9)));
    let (_, next) = started(&fake).await;
    assert_eq!(status(&next), None);
}

#[tokio::test]
async fn a_handle_attached_later_sees_the_same_end() {
    let (fake, control) = Fake::new();
    let (id, task) = started(&fake).await;
    let found = fake.find(id).await.unwrap();
    let record = control.container(id).unwrap();
    let attached = fake.attach(&record, found.task.unwrap());
    assert!(control.oom_kill(id));
    assert_eq!(status(&attached), status(&task));
    assert!(attached.exit().borrow().as_ref().unwrap().oom_killed);
    assert_eq!(*attached.oom_kills().borrow(), 1);
}

#[tokio::test]
async fn everything_can_be_removed_again() {
    let (fake, control) = Fake::new();
    let (id, task) = started(&fake).await;
    assert!(task.delete().await.is_err());
    fake.discard_task(id).await.unwrap();
    task.delete().await.unwrap();
    fake.delete(id).await.unwrap();
    assert_eq!(control.tasks(), Vec::<(ContainerId, FoundState)>::new());
    assert_eq!(control.containers(), []);
    assert_eq!(fake.find(id).await.unwrap(), Found::default());
}
