//! Races around execs, each run many times: nothing hangs, no exit code is lost or invented, and nothing is
//! left (the harness looks for processes, descriptors' FIFOs, records and tasks at the end).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};
use wharf_api::ErrorReason;
use wharf_api::v1::exit_status::Reason;
use wharf_api::v1::{self, exec::State};

use crate::harness::streams::{exec, exec_with_terminal};
use crate::harness::{Client, Refusal, keeper, not_by_crun, scenario, spec, tier};

/// No round may take longer.
const LATE: Duration = Duration::from_secs(120);

fn random() -> StdRng {
    StdRng::seed_from_u64(tier::seed())
}

async fn created(client: &Client, spec: v1::ExecSpec) -> String {
    let request = v1::CreateExecRequest {
        container: "box".to_owned(),
        spec: Some(spec),
        ..Default::default()
    };
    client.create_exec(request).await.unwrap().exec.unwrap().id
}

async fn start(client: &Client, id: &str) -> Result<bool, Refusal> {
    let request = v1::StartExecRequest {
        exec_id: id.to_owned(),
    };
    Ok(client.start_exec(request).await?.changed)
}

async fn get(client: &Client, id: &str) -> v1::Exec {
    let request = v1::GetExecRequest {
        exec_id: id.to_owned(),
    };
    client.get_exec(request).await.unwrap().exec.unwrap()
}

#[test]
fn two_clients_that_start_one_exec_start_it_once_and_both_can_join_it() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut random = random();
        for _ in 0..tier::races() {
            let id = created(&client, exec(&["sh", "-c", "echo out; exit 3"])).await;
            let pause = Duration::from_micros(random.random_range(0..3_000));
            let second = async {
                sleep(pause).await;
                if pause.as_micros().is_multiple_of(2) {
                    start(&client, &id).await
                } else {
                    let from_the_beginning = v1::AttachOptions {
                        resume: vec![v1::StreamOffset {
                            stream: v1::OutputStream::Stdout.into(),
                            offset: 0,
                        }],
                        ..Default::default()
                    };
                    let joined = client.attach_exec(&id, from_the_beginning).await?;
                    let whole = joined.whole().await?;
                    assert_eq!((whole.out(), whole.exit.code), ("out\n", 3));
                    Ok(false)
                }
            };
            let both = async { tokio::join!(start(&client, &id), second) };
            let (first, second) = timeout(LATE, both).await.expect("no hang");
            assert!(!(first.unwrap() && second.unwrap()), "it was started twice");
            assert_eq!(client.exec_exit(&id).await.unwrap().code, 3);
        }
    });
}

#[test]
fn sizes_set_before_the_start_and_around_the_end_are_taken_or_refused_with_a_reason() {
    not_by_crun(
        "crun 1.8 starts the program of an exec before its terminal is all there, which may stay nobody's controlling one",
        async |world| {
            let client = world.up().await;
            client.run("box", spec::PATIENT).await.unwrap();
            let mut random = random();
            for round in 1..=tier::races() {
                let id = created(
                    &client,
                    exec_with_terminal(&["sh", "-c", "stty size"], 10, 10),
                )
                .await;
                let size = |rows: u32| v1::ResizeExecRequest {
                    exec_id: id.clone(),
                    size: Some(v1::TerminalSize { rows, columns: 80 }),
                };
                let rows = u32::try_from(round % 1_000 + 1).unwrap();
                client.resize_exec(size(rows)).await.unwrap();
                let joined = client.attach_exec(&id, v1::AttachOptions::default()).await;
                let late = async {
                    sleep(Duration::from_millis(random.random_range(0..60))).await;
                    client.resize_exec(size(7)).await
                };
                let both = async { tokio::join!(joined.unwrap().whole(), late) };
                let (whole, late) = timeout(LATE, both).await.expect("no hang");
                let whole = whole.unwrap();
                let told: Vec<_> = whole.out().split_whitespace().collect();
                // What was asked for before the start, or the later size if that was quicker than the program.
                assert!(
                    told == [rows.to_string(), "80".to_owned()] || told == ["7", "80"],
                    "{told:?}"
                );
                if let Err(refusal) = late {
                    assert!(refusal.is(ErrorReason::ExecNotRunning), "{refusal:?}");
                }
            }
        },
    );
}

#[test]
fn a_signal_at_the_exit_is_sent_or_refused_and_never_changes_what_the_process_said() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut random = random();
        let mut ends = BTreeMap::new();
        for _ in 0..tier::races() {
            let id = created(&client, exec(&["sh", "-c", "sleep 0.03; exit 9"])).await;
            assert!(start(&client, &id).await.unwrap());
            sleep(Duration::from_millis(random.random_range(15..60))).await;
            let sent = client
                .signal_exec(v1::SignalExecRequest {
                    exec_id: id.clone(),
                    signal: "KILL".to_owned(),
                    ..Default::default()
                })
                .await;
            let exit = timeout(LATE, client.exec_exit(&id)).await.expect("no hang");
            let exit = exit.unwrap();
            let end = (exit.reason(), exit.code);
            match &sent {
                Ok(_) => assert!(
                    [(Reason::Exited, 9), (Reason::Signaled, 137)].contains(&end),
                    "{exit:?}"
                ),
                Err(refusal) => {
                    assert!(refusal.is(ErrorReason::ExecNotRunning), "{refusal:?}");
                    assert_eq!(end, (Reason::Exited, 9));
                }
            }
            *ends.entry((sent.is_ok(), exit.code)).or_insert(0) += 1;
        }
        eprintln!("(sent, code): {ends:?}");
    });
}

#[test]
fn who_attaches_before_the_start_misses_nothing() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut random = random();
        for _ in 0..tier::races() {
            let id = created(&client, exec(&["sh", "-c", "echo first; echo last"])).await;
            let follow = v1::FollowExecRequest {
                exec_id: id.clone(),
                ..Default::default()
            };
            let follower = client.follow_exec(follow).await.unwrap();
            sleep(Duration::from_micros(random.random_range(0..2_000))).await;
            let both = async { tokio::join!(start(&client, &id), follower.whole()) };
            let (started, whole) = timeout(LATE, both).await.expect("no hang");
            assert!(started.unwrap());
            assert_eq!(whole.unwrap().out(), "first\nlast\n");
        }
    });
}

#[test]
fn an_exec_that_is_deleted_while_it_streams_ends_its_streams() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut random = random();
        for _ in 0..tier::races() {
            let spec = exec(&["sh", "-c", "while :; do echo line; done"]);
            let mut joined = client.run_exec("box", spec).await.unwrap();
            joined.started().await.unwrap();
            let id = joined.exec_id().to_owned();
            sleep(Duration::from_millis(random.random_range(0..30))).await;
            let delete = client.delete_exec(v1::DeleteExecRequest {
                exec_id: id.clone(),
                force: true,
                ..Default::default()
            });
            let both = async { tokio::join!(delete, joined.whole()) };
            let (deleted, whole) = timeout(LATE, both).await.expect("no hang");
            assert!(deleted.unwrap().changed);
            match whole {
                Ok(whole) => assert_eq!(whole.exit.signal, "SIGKILL"),
                Err(refusal) => assert!(refusal.is(ErrorReason::ExecNotFound), "{refusal:?}"),
            }
        }
    });
}

#[test]
fn a_container_that_stops_ends_ten_execs_whatever_they_are_at() {
    scenario(async |world| {
        let client = world.up().await;
        let mut random = random();
        for round in 0..tier::races() {
            let name = format!("box{round}");
            client.run(&name, spec::PATIENT).await.unwrap();
            let pauses: Vec<_> = (0..10).map(|_| random.random_range(0..40)).collect();
            let execs = join_all(pauses.into_iter().map(|pause| {
                let (client, name) = (&client, &name);
                async move {
                    sleep(Duration::from_millis(pause)).await;
                    let spec = exec(&["sh", "-c", "sleep 0.02; exit 4"]);
                    client.run_exec(name, spec).await?.whole().await
                }
            }));
            let stop = async {
                sleep(Duration::from_millis(random.random_range(0..60))).await;
                client.stop(&name, Duration::from_secs(5)).await
            };
            let both = async { tokio::join!(execs, stop) };
            let (execs, stopped) = timeout(LATE, both).await.expect("no hang");
            stopped.unwrap();
            for whole in execs {
                match whole {
                    Ok(whole) => assert!(
                        [(Reason::Exited, 4), (Reason::Signaled, 137)]
                            .contains(&(whole.exit.reason(), whole.exit.code)),
                        "{:?}",
                        whole.exit
                    ),
                    Err(refusal) => assert!(
                        [
                            ErrorReason::ContainerNotRunning,
                            ErrorReason::ExecNotRunning
                        ]
                        .contains(&refusal.reason()),
                        "{refusal:?}"
                    ),
                }
            }
            client.delete(&name).await.unwrap();
        }
    });
}

#[test]
fn many_execs_at_once_are_bounded_and_everything_is_released() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let all = join_all((0..500).map(|number| {
            let client = client.clone();
            async move {
                let script = format!("echo {number}; exit {}", number % 256);
                let joined = client.run_exec("box", exec(&["sh", "-c", &script])).await?;
                joined.whole().await.map(|whole| (number, whole))
            }
        }))
        .await;
        for done in all {
            let (number, whole) = done.unwrap();
            assert_eq!(whole.out(), format!("{number}\n"));
            assert_eq!(whole.exit.code, number % 256);
        }

        let spec = || exec(&["true"]);
        let mut ids = Vec::new();
        for _ in 0..1_024 {
            ids.push(created(&client, spec()).await);
        }
        let request = v1::CreateExecRequest {
            container: "box".to_owned(),
            spec: Some(spec()),
            ..Default::default()
        };
        let refusal = client.create_exec(request).await.unwrap_err();
        assert!(refusal.is(ErrorReason::TooManyExecs), "{refusal:?}");
        assert!(refusal.retry_after.is_some());
        // Each that goes makes room for one; five thousand in all.
        for _ in 0..5_000 - 1_024 {
            let id = ids.swap_remove(0);
            client
                .delete_exec(v1::DeleteExecRequest {
                    exec_id: id,
                    ..Default::default()
                })
                .await
                .unwrap();
            ids.push(created(&client, spec()).await);
        }
        let state = get(&client, &ids[0]).await.state();
        assert_eq!(state, State::Created);
        assert_eq!(keeper::pids(world.directory()).len(), 1);
        let descriptors = descriptors_of(world.wharfd.pid());
        assert!(descriptors < 200, "{descriptors} descriptors are open");
    });
}

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}
