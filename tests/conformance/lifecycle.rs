//! One container, from create to delete.

use std::time::Duration;

use wharf_api::v1::{
    Container, PruneContainersRequest, container::State, event::Type, exit_status::Reason,
};

use crate::harness::events::{self, cause, types};
use crate::harness::{scenario, spec};

#[test]
fn a_container_lives_and_every_step_is_in_the_journal() {
    scenario(async |world| {
        let client = world.up().await;
        let created = client
            .with_id("create-1")
            .create("web", spec::PATIENT)
            .await
            .unwrap();
        assert_eq!(
            (created.state(), created.run, created.pid),
            (State::Created, 0, 0)
        );

        let started = client.with_id("start-1").start("web").await.unwrap();
        assert!(started.changed);
        let running = started.container.unwrap();
        assert_eq!((running.state(), running.run), (State::Running, 1));
        assert!(running.pid > 0);
        client.until_it_minds_signals("web").await;

        let stopped = client
            .with_id("stop-1")
            .stop("web", Duration::from_secs(20))
            .await
            .unwrap();
        assert!(stopped.changed && !stopped.killed, "{stopped:?}");
        let exit = stopped.exit_status.unwrap();
        assert_eq!((exit.reason(), exit.code, exit.run), (Reason::Exited, 0, 1));
        assert_eq!(exit.cause.unwrap().request_id, "stop-1");
        assert_eq!(client.state("web").await.unwrap(), State::Exited);

        assert!(client.with_id("delete-1").delete("web").await.unwrap());
        let events = client.events_of(&created.id).await;
        assert_eq!(
            types(&events),
            [
                Type::ContainerCreated,
                Type::ContainerStarted,
                Type::ContainerStopping,
                Type::ContainerSignaled,
                Type::ContainerExited,
                Type::ContainerDeleted
            ]
        );
        let causes: Vec<_> = events.iter().map(|event| cause(event).unwrap()).collect();
        assert_eq!(
            causes,
            [
                "create-1", "start-1", "stop-1", "stop-1", "stop-1", "delete-1"
            ]
        );
        events::must_be_dense(&client.every_event().await);
    });
}

#[test]
fn doing_what_is_already_so_changes_nothing_and_is_no_error() {
    scenario(async |world| {
        let client = world.up().await;
        let Container { id, .. } = client.run_patient("web").await.unwrap();
        assert!(!client.start("web").await.unwrap().changed);
        assert!(!client.resume("web").await.unwrap());
        assert!(client.pause("web").await.unwrap());
        assert!(!client.pause("web").await.unwrap());
        assert!(client.resume("web").await.unwrap());
        assert!(
            client
                .stop("web", Duration::from_secs(20))
                .await
                .unwrap()
                .changed
        );
        let again = client.stop("web", Duration::from_secs(20)).await.unwrap();
        assert!(!again.changed);
        assert_eq!(again.exit_status.unwrap().run, 1);

        let before = client.events_of(&id).await.len();
        client.stop(&id, Duration::ZERO).await.unwrap();
        assert_eq!(client.events_of(&id).await.len(), before);
    });
}

#[test]
fn a_process_that_ignores_its_stop_signal_is_killed_after_the_grace_period() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("stubborn", spec::STUBBORN).await.unwrap();
        let stopped = client
            .stop("stubborn", Duration::from_millis(200))
            .await
            .unwrap();
        assert!(stopped.changed && stopped.killed, "{stopped:?}");
        let exit = stopped.exit_status.unwrap();
        assert_eq!((exit.reason(), exit.code), (Reason::Signaled, 137));
        assert_eq!(exit.signal, "SIGKILL");
    });
}

#[test]
fn a_paused_container_can_be_stopped_killed_and_deleted() {
    scenario(async |world| {
        let client = world.up().await;
        for name in ["stopped", "killed", "deleted"] {
            client.run_patient(name).await.unwrap();
            client.pause(name).await.unwrap();
        }
        let stopped = client
            .stop("stopped", Duration::from_secs(20))
            .await
            .unwrap();
        assert!(stopped.changed && !stopped.killed, "{stopped:?}");
        assert_eq!(stopped.exit_status.unwrap().code, 0);

        client.signal("killed", "SIGKILL").await.unwrap();
        assert_eq!(client.exit_of("killed", 1).await.unwrap().code, 137);
        assert!(client.delete_by_force("deleted").await.unwrap());
    });
}

#[test]
fn an_exit_nobody_asked_for_has_its_code_and_no_cause() {
    scenario(async |world| {
        let client = world.up().await;
        let container = client
            .with_id("run-7")
            .run("brief", &["sh", "-c", "exit 7"])
            .await
            .unwrap();
        let exit = client.exit_of("brief", 1).await.unwrap();
        assert_eq!((exit.reason(), exit.code, exit.run), (Reason::Exited, 7, 1));
        assert!(exit.cause.is_none(), "{exit:?}");

        let events = client.events_of(&container.id).await;
        let exits: Vec<_> = events
            .iter()
            .filter(|e| e.r#type() == Type::ContainerExited)
            .collect();
        assert_eq!(exits.len(), 1);
        assert_eq!(cause(exits[0]), None);
    });
}

#[test]
fn a_container_can_run_again_and_each_run_has_its_own_end() {
    scenario(async |world| {
        let client = world.up().await;
        let container = client
            .create("again", &["sh", "-c", "exit 3"])
            .await
            .unwrap();
        for run in 1..=3 {
            let started = client.start("again").await.unwrap().container.unwrap();
            assert_eq!(started.run, run);
            let exit = client.exit_of("again", run).await.unwrap();
            assert_eq!((exit.code, exit.run), (3, run));
        }
        let events = client.events_of(&container.id).await;
        let ended: Vec<_> = events
            .iter()
            .filter(|event| event.r#type() == Type::ContainerExited)
            .map(|event| event.run)
            .collect();
        assert_eq!(ended, [1, 2, 3]);
    });
}

#[test]
fn a_deleted_container_frees_its_name_at_once() {
    scenario(async |world| {
        let client = world.up().await;
        let first = client.create("name", &["true"]).await.unwrap();
        client.delete("name").await.unwrap();
        let second = client.create("name", &["true"]).await.unwrap();
        assert_ne!(first.id, second.id);
    });
}

#[test]
fn a_prune_says_what_each_container_has_written() {
    const MEBIBYTE: i64 = 1 << 20;
    scenario(async |world| {
        let client = world.up().await;
        let write = |mebibytes: u32| {
            format!(
                "dd if=/dev/zero of=/first bs=1M count={mebibytes} 2>/dev/null; ln /first /second; ln -s / /around; \
                 truncate -s 1G /hole; echo x > /tmp/in-memory-or-not"
            )
        };
        for (name, mebibytes) in [("three", 3), ("five", 5)] {
            let args = ["sh", "-c", &write(mebibytes)];
            client.run(name, &args).await.unwrap();
            assert_eq!(client.exit_of(name, 1).await.unwrap().code, 0);
        }
        client.create("unborn", &["true"]).await.unwrap();
        for dry_run in [true, false] {
            let request = client.request(PruneContainersRequest {
                dry_run,
                ..Default::default()
            });
            let mut told = client
                .containers()
                .prune_containers(request)
                .await
                .unwrap()
                .into_inner();
            for mebibytes in [3, 5] {
                let bytes = told.message().await.unwrap().unwrap().reclaimed_bytes;
                let expected = mebibytes * MEBIBYTE..mebibytes * MEBIBYTE + MEBIBYTE / 4;
                assert!(expected.contains(&bytes), "{bytes} of {mebibytes} MiB");
            }
            assert!(told.message().await.unwrap().is_none());
        }
        assert_eq!(client.list().await.unwrap().len(), 1);
    });
}
