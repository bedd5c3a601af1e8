//! Request ids and events: who did what, as the command line tells it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::{IMAGE, Wharf, up};
use crate::harness::scenario;

fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

#[test]
fn what_a_request_did_is_found_by_its_id() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = [
            "--request-id",
            "job-7/run",
            "run",
            "-d",
            "--name",
            "web",
            IMAGE,
            "sleep",
            "3600",
        ];
        let id = wharf.ok_words(&words).await;
        wharf.ok("stop --request-id job-7/stop -t 0 web").await;
        let line = wharf.ok("trace job-7/stop").await;
        let told: Vec<_> = line
            .lines()
            .map(|line| line.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(
            told,
            [
                "container-stopping",
                "container-signaled",
                "container-exited"
            ]
        );
        assert!(
            line.lines()
                .all(|line| line.contains(&id) && line.ends_with(" request=job-7/stop")),
            "{line}"
        );

        let events = wharf.json("trace job-7/run").await;
        assert_eq!(
            types(&events),
            ["TYPE_CONTAINER_CREATED", "TYPE_CONTAINER_STARTED"]
        );
        for event in &events {
            let cause = &event["cause"];
            assert_eq!(cause["requestId"], "job-7/run");
            assert_eq!(
                cause["method"],
                "/wharf.v1.ContainerService/CreateContainer"
            );
            assert_eq!(
                cause["principal"],
                format!("uid:{}", rustix::process::getuid().as_raw())
            );
        }
        assert_eq!(wharf.ok("trace nobody-asked").await, "");
        // One id for all that one command does, also where nobody has given one.
        for name in ["a", "b"] {
            wharf
                .ok(&format!("create --name {name} busybox:test true"))
                .await;
        }
        wharf.ok("rm a b").await;
        let deleted = wharf
            .json("events --follow=false -f type=container-deleted")
            .await;
        assert_eq!(deleted.len(), 2);
        assert_eq!(
            deleted[0]["cause"]["requestId"],
            deleted[1]["cause"]["requestId"]
        );
    });
}

#[test]
fn events_of_the_past_are_those_that_were_asked_for() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .ok("run -d --name web -l tier=web busybox:test true")
            .await;
        wharf.ok("wait web").await;
        wharf.ok("create --name other busybox:test true").await;
        let all = wharf.json("events --since 10m --follow=false").await;
        let of_web = wharf.json("events --follow=false -f container=web").await;
        assert_eq!(
            types(&of_web),
            [
                "TYPE_CONTAINER_CREATED",
                "TYPE_CONTAINER_STARTED",
                "TYPE_CONTAINER_EXITED"
            ]
        );
        let with_label = wharf.json("events --follow=false -f label=tier=web").await;
        assert_eq!(with_label, of_web);
        let exits = wharf
            .json("events --until now -f type=container-exited")
            .await;
        assert_eq!(exits.len(), 1);
        assert_eq!(exits[0]["exitStatus"]["code"], 0);
        assert!(all.len() > of_web.len());

        // Just after a cursor comes the next one.
        let cursor = all[all.len() - 2]["cursor"].as_str().unwrap();
        let rest = wharf
            .json(&format!("events --follow=false --cursor {cursor}"))
            .await;
        assert_eq!(rest, all[all.len() - 1..]);
        let refused = wharf
            .fails(1, "events --follow=false --cursor not-a-cursor")
            .await;
        assert!(refused.contains("(CURSOR_INVALID, request "), "{refused}");
        assert_eq!(wharf.ok("events --since 0 --until 1").await, "");
    });
}

/// `wharf events`, going on. Killed when dropped.
struct Following(Child, BufReader<std::process::ChildStdout>);

impl Following {
    fn start(wharf: &Wharf) -> Self {
        let mut command = wharf.command(["events", "--since", "1h", "--format", "json"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self(child, lines)
    }

    /// The sequences of all events up to the deletion of `container`.
    async fn until_deleted(mut self, container: String) -> Vec<u64> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut sequences = Vec::new();
            loop {
                let mut line = String::new();
                assert_ne!(
                    self.1.read_line(&mut line).unwrap(),
                    0,
                    "the events have ended"
                );
                let event: Value = serde_json::from_str(&line).unwrap();
                sequences.push(event["sequence"].as_str().unwrap().parse().unwrap());
                if event["type"] == "TYPE_CONTAINER_DELETED" && event["containerId"] == container {
                    return sequences;
                }
            }
        });
        let reading = tokio::time::timeout(super::LONGEST, reading);
        reading.await.expect("the events arrive").unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn events_are_followed_over_a_restart_of_the_server_without_a_gap() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.ok("create --name before busybox:test true").await;
        let following = Following::start(&wharf);
        wharf.ok("create --name meanwhile busybox:test true").await;
        world.wharfd.kill();
        world.wharfd.start().await;
        wharf.ok("rm before").await;
        let last = wharf.inspect("meanwhile").await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        wharf.ok("rm meanwhile").await;
        let sequences = following.until_deleted(last).await;
        let dense: Vec<_> = (sequences[0]..).take(sequences.len()).collect();
        assert_eq!(sequences, dense);
        assert!(sequences.len() >= 5, "{sequences:?}");
    });
}
