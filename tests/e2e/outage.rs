//! containerd goes away, comes back, freezes, or is not there yet.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use wharf_api::ErrorReason;
use wharf_api::v1::container_service_client::ContainerServiceClient;
use wharf_api::v1::{
    self, BindMount, Container, Mount, WatchEventsRequest, container::State, event::Type,
    exit_status::Reason, mount,
};

use crate::harness::client::answer;
use crate::harness::direct::origin;
use crate::harness::events::types;
use crate::harness::proxy::Fault;
use crate::harness::streams::exec;
use crate::harness::wait::so;
use crate::harness::{Client, Refusal, World, containerd_only, leaks, spec, until};

const BACK: Duration = Duration::from_secs(30);

/// Runs until `/shared/NAME` is there, and then ends with code 5.
async fn run_until_told(client: &Client, name: &str, shared: &Path) -> Container {
    let wait = format!("while [ ! -e /shared/{name} ]; do sleep 0.05; done; exit 5");
    let mut spec = spec::running(&["sh", "-c", &wait]);
    spec.mounts.push(Mount {
        target: "/shared".to_owned(),
        source: Some(mount::Source::Bind(BindMount {
            path: shared.to_str().unwrap().to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    });
    client.run_spec(name, spec).await.unwrap()
}

fn shared(world: &World) -> std::path::PathBuf {
    let shared = world.directory().join("shared");
    fs::create_dir_all(&shared).unwrap();
    shared
}

async fn backend_is(client: &Client, ready: bool) {
    until("the condition BackendReady says so", BACK, async || {
        let info = client.info().await.map_err(|refusal| refusal.to_string())?;
        let condition = info
            .conditions
            .iter()
            .find(|c| c.r#type == "BackendReady")
            .unwrap();
        so(condition.status == ready, || format!("{condition:?}"))
    })
    .await;
}

fn must_be_unavailable(refusal: &Refusal) {
    assert_eq!(
        refusal.reason(),
        ErrorReason::BackendUnavailable,
        "{refusal}"
    );
    assert!(
        refusal.retry_after.is_some_and(|delay| !delay.is_zero()),
        "{refusal}"
    );
}

#[test]
fn exits_that_happen_while_containerd_is_away_are_settled_when_it_is_back() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        let shared = shared(world);
        let told = run_until_told(&client, "told", &shared).await;
        let patient = client.run_patient("patient").await.unwrap();

        world.containerd.kill();
        backend_is(&client, false).await;
        fs::write(shared.join("told"), "").unwrap();
        must_be_unavailable(&client.pause("patient").await.unwrap_err());
        must_be_unavailable(&client.create("new", &["true"]).await.unwrap_err());
        let stats = client.list_stats(v1::ListStatsRequest::default()).await;
        must_be_unavailable(&stats.unwrap_err());
        assert_eq!(client.state("patient").await.unwrap(), State::Running);
        assert_eq!(
            client.list().await.unwrap().len(),
            2,
            "a refused create left something"
        );

        world.containerd.start().await;
        backend_is(&client, true).await;
        let exit = timeout(BACK, client.exit_of(&told.id, 1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (exit.reason(), exit.code, &exit.cause),
            (Reason::Exited, 5, &None)
        );
        let after = client.get("patient").await.unwrap();
        assert_eq!(
            (after.state(), after.pid, after.run),
            (State::Running, patient.pid, 1)
        );
        assert!(
            client
                .stop("patient", Duration::from_secs(20))
                .await
                .unwrap()
                .changed
        );

        let told = types(&client.every_event().await);
        for expected in [Type::BackendDisconnected, Type::BackendConnected] {
            assert!(told.contains(&expected), "no {expected:?} in {told:?}");
        }
    });
}

#[test]
fn an_exec_that_ends_before_its_container_while_containerd_is_away_keeps_its_code() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        let shared = shared(world);
        let told = run_until_told(&client, "told", &shared).await;
        let wait = "while [ ! -e /shared/exec ]; do sleep 0.05; done; touch /shared/ended; exit 3";
        let spec = exec(&["sh", "-c", wait]);
        let mut joined = client.run_exec("told", spec).await.unwrap();
        joined.started().await.unwrap();

        world.containerd.kill();
        backend_is(&client, false).await;
        fs::write(shared.join("exec"), "").unwrap();
        until("the exec has ended", BACK, async || {
            so(shared.join("ended").exists(), || "it runs".to_owned())
        })
        .await;
        fs::write(shared.join("told"), "").unwrap();

        world.containerd.start().await;
        let exit = timeout(BACK, client.exit_of(&told.id, 1)).await.unwrap();
        assert_eq!(exit.unwrap().code, 5);
        let exit = joined.whole().await.unwrap().exit;
        assert_eq!((exit.reason(), exit.code), (Reason::Exited, 3));
    });
}

#[test]
fn calls_under_load_fail_with_a_reason_and_nothing_runs_for_ever() {
    containerd_only("it takes containerd away", async |world| {
        world.containerd_may_lose_shims();
        let client = world.up().await;
        let mut lives = tokio::task::JoinSet::new();
        for worker in 0..4 {
            let client = client.clone();
            lives.spawn(async move { live_until_refused(&client, worker).await });
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            world.containerd.stop().await;
            backend_is(&client, false).await;
            world.containerd.start().await;
            backend_is(&client, true).await;
        }
        let refusals: usize = lives.join_all().await.into_iter().sum();
        assert!(refusals > 0, "no call met the outage");
        until("everything that ended is settled", BACK, async || {
            let all = client.list().await.map_err(|refusal| refusal.to_string())?;
            let alive: Vec<_> = all
                .iter()
                .filter(|c| is_alive(c))
                .map(|c| c.state())
                .collect();
            so(alive.is_empty(), || format!("{alive:?}"))
        })
        .await;
    });
}

fn is_alive(container: &Container) -> bool {
    !matches!(
        container.state(),
        State::Created | State::Exited | State::Failed
    )
}

/// Short lives one after the other; how many calls were refused. Every refusal must be of a kind that
/// an outage explains.
async fn live_until_refused(client: &Client, worker: usize) -> usize {
    let mut refusals = 0;
    for number in 0..30 {
        let name = format!("load-{worker}-{number}");
        if let Err(refusal) = live_once(client, &name).await {
            must_be_unavailable(&refusal);
            refusals += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    refusals
}

async fn live_once(client: &Client, name: &str) -> Result<(), Refusal> {
    let container = client.create(name, &["sh", "-c", "exit 6"]).await?;
    client.start(&container.id).await?;
    let exit = client.exit_of(&container.id, 1).await?;
    assert_eq!((exit.reason(), exit.code), (Reason::Exited, 6), "{name}");
    client.delete(&container.id).await?;
    Ok(())
}

#[test]
fn a_frozen_containerd_delays_no_read_no_list_and_no_watch() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        client.run_patient("patient").await.unwrap();
        world.containerd.freeze();

        let quick = client.with_deadline(Duration::from_secs(8));
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(quick.state("patient").await.unwrap(), State::Running);
            assert_eq!(quick.list().await.unwrap().len(), 1);
            quick.info().await.unwrap();
            assert!(!quick.every_event().await.is_empty());
        }
        let mut watch = quick.watch(since_the_beginning()).await.unwrap();
        let seen = watch.until(Type::ContainerStarted).await;
        assert!(types(&seen).contains(&Type::ContainerCreated));
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "reads took {:?}",
            began.elapsed()
        );
        world.containerd.thaw();
    });
}

#[test]
fn a_create_whose_answers_are_lost_leaves_nothing_and_can_be_repeated() {
    const RECORD: &str = "/containerd.services.containers.v1.Containers/Create";
    const PREPARE: &str = "/containerd.services.snapshots.v1.Snapshots/Prepare";
    containerd_only("it takes containerd away", async |world| {
        let proxy = world.behind_a_proxy();
        let client = world.up().await;
        for path in [RECORD, PREPARE] {
            proxy.fail_times(path, Fault::ActThenCut, 1);
            must_be_unavailable(&client.create("lost", &["true"]).await.unwrap_err());
            backend_is(&client, true).await;
            until("containerd has nothing of it", BACK, async || {
                let left = leaks::in_containerd(&world.containerd).await;
                so(left.is_empty(), || left.join("; "))
            })
            .await;
            assert_eq!(client.list().await.unwrap(), []);
        }
        client.create("lost", &["true"]).await.unwrap();
    });
}

fn since_the_beginning() -> WatchEventsRequest {
    WatchEventsRequest {
        start: Some(v1::watch_events_request::Start::SinceTime(
            prost_types::Timestamp::default(),
        )),
        ..Default::default()
    }
}

#[test]
fn a_mutation_that_meets_a_frozen_containerd_ends_by_its_deadline_and_can_be_read_back() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        client.run_patient("patient").await.unwrap();
        world.containerd.freeze();

        let began = Instant::now();
        let hasty = client.with_deadline(Duration::from_millis(500));
        let request = hasty.request(v1::PauseContainerRequest {
            container: "patient".to_owned(),
            ..Default::default()
        });
        let mut direct = ContainerServiceClient::with_origin(client.direct().await, origin());
        let refusal = answer(direct.pause_container(request).await).unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::Deadline, "{refusal}");
        // Far below the backend's own.
        assert!(began.elapsed() < Duration::from_secs(8));

        world.containerd.thaw();
        until("the pause goes on", BACK, async || {
            let state = client.state("patient").await.unwrap();
            so(state == State::Paused, || format!("{state:?}"))
        })
        .await;
        assert!(client.resume("patient").await.unwrap());
        assert_eq!(client.state("patient").await.unwrap(), State::Running);
    });
}

#[test]
fn without_a_deadline_a_frozen_containerd_ends_in_unavailable_and_unknown() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        client.run_patient("patient").await.unwrap();
        world.containerd.freeze();
        let endless = client.with_deadline(None);
        let refusal = timeout(Duration::from_secs(60), endless.pause("patient")).await;
        let refusal = refusal.expect("the backend's own deadline").unwrap_err();
        must_be_unavailable(&refusal);
        assert_eq!(refusal.metadata["mutationApplied"], "unknown");

        world.containerd.thaw();
        backend_is(&client, true).await;
        until(
            "the container answers to commands again",
            BACK,
            async || {
                client
                    .resume("patient")
                    .await
                    .map_err(|refusal| refusal.to_string())
            },
        )
        .await;
        assert_eq!(client.state("patient").await.unwrap(), State::Running);
    });
}

#[test]
fn without_containerd_at_start_reads_are_served_and_it_connects_when_it_comes() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.up().await;
        let before = client.create("kept", spec::PATIENT).await.unwrap();
        world.wharfd.stop().await;
        world.containerd.stop().await;

        let client = world.wharfd.start_without_backend().await;
        backend_is(&client, false).await;
        let kept = client.get("kept").await.unwrap();
        assert_eq!((&kept.id, kept.state()), (&before.id, State::Created));
        assert_eq!(
            client
                .list_images(v1::ListImagesRequest::default())
                .await
                .unwrap()
                .images
                .len(),
            1
        );
        must_be_unavailable(&client.start("kept").await.unwrap_err());

        world.containerd.start().await;
        backend_is(&client, true).await;
        assert!(client.start("kept").await.unwrap().changed);
        assert_eq!(client.state("kept").await.unwrap(), State::Running);
    });
}

#[test]
fn without_containerd_ever_a_new_server_serves_and_says_so() {
    containerd_only("it takes containerd away", async |world| {
        let client = world.wharfd.start_without_backend().await;
        backend_is(&client, false).await;
        assert_eq!(client.list().await.unwrap(), []);
        assert_eq!(
            client.get("nobody").await.unwrap_err().reason(),
            ErrorReason::ContainerNotFound
        );
        client.get_version(v1::GetVersionRequest {}).await.unwrap();
        assert!(world.wharfd.stop().await.success());
    });
}
