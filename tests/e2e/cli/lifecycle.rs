//! Containers from create to prune.

use std::process::Command;

use serde_json::Value;

use super::look::Main;
use super::{IMAGE, up};
use crate::harness::scenario;

/// Ends with code 7 on SIGTERM, with 8 on SIGUSR1.
const PATIENT: &str =
    "trap 'exit 7' TERM; trap 'exit 8' USR1; while :; do sleep 3600 & wait $!; done";

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[test]
fn a_container_is_run_listed_waited_for_stopped_started_again_and_removed() {
    scenario(async |world| {
        let wharf = up(world).await;
        let id = wharf.run_script("--name web --network none", PATIENT).await;
        assert!(is_id(&id), "{id:?}");
        assert_eq!(wharf.ok("ps -q").await, id);
        assert_eq!(wharf.ok("ps -q --no-trunc").await, id);
        let row = wharf.ok("ps").await;
        let row = row.lines().nth(1).expect("one row");
        for shown in [&id[..12], IMAGE, "\"sh -c ", "Up ", "web"] {
            assert!(row.contains(shown), "no {shown} in {row}");
        }

        // `wait` tells the code of the run that goes on, whoever ends it.
        let (code, stopped) = tokio::join!(wharf.ok("wait web"), wharf.ok("stop -t 30 web"));
        assert_eq!((code.as_str(), stopped.as_str()), ("7", "web"));
        assert_eq!(wharf.ok("wait web").await, "7");
        assert_eq!(wharf.ok("ps -q").await, "");
        let row = wharf.ok("ps -a").await;
        assert!(row.contains("Exited (7)"), "{row}");

        assert_eq!(wharf.ok("start web").await, "web");
        assert_eq!(wharf.inspect("web").await["run"], "2");
        assert_eq!(wharf.ok("restart -t 30 web").await, "web");
        assert_eq!(wharf.inspect("web").await["run"], "3");
        let refused = wharf.fails(1, "rm web").await;
        assert!(
            refused.contains("(CONTAINER_RUNNING, request "),
            "{refused}"
        );
        assert_eq!(wharf.ok("rm -f web").await, "web");
        assert_eq!(wharf.ok("ps -aq").await, "");
    });
}

#[test]
fn a_created_container_runs_when_it_is_started_and_a_signal_reaches_it() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["create", "--name", "later", IMAGE, "sh", "-c", PATIENT];
        let id = wharf.ok_words(&words).await;
        assert_eq!(wharf.inspect("later").await["state"], "STATE_CREATED");
        assert!(wharf.ok("ps -a").await.contains("Created"));
        assert_eq!(wharf.ok(&format!("start {id}")).await, id);
        assert_eq!(wharf.inspect(&id).await["state"], "STATE_RUNNING");

        assert_eq!(wharf.ok("kill -s USR1 later").await, "later");
        assert_eq!(wharf.ok("wait later").await, "8");
        let refused = wharf.fails(1, "kill later").await;
        assert!(
            refused.contains("(CONTAINER_NOT_RUNNING, request "),
            "{refused}"
        );
        wharf.ok("start later").await;
        wharf.ok("kill later").await;
        assert_eq!(wharf.ok("wait later").await, "137");
        let status = &wharf.inspect("later").await["exitStatus"];
        assert_eq!(status["reason"], "REASON_SIGNALED");
        assert_eq!(status["signal"], "SIGKILL");
    });
}

#[test]
fn ids_that_are_listed_are_taken_by_the_other_commands() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.run_script("--name runs", PATIENT).await;
        wharf.ok("create --name waits busybox:test true").await;
        let running = wharf.ok("ps -q").await;
        assert_eq!(wharf.inspect(&running).await["name"], "runs");
        let all = wharf.ok("ps -aq").await;
        assert_eq!(all.lines().count(), 2, "{all}");
        let removed = wharf.ok(&format!("rm -f {}", all.replace('\n', " "))).await;
        assert_eq!(removed, all);
        assert_eq!(wharf.ok("ps -aq").await, "");
        let image = wharf.ok("images -q").await;
        assert!(
            wharf
                .ok(&format!("rmi {image}"))
                .await
                .contains("Deleted: ")
        );
        assert_eq!(wharf.ok("images -q").await, "");
    });
}

#[test]
fn paused_processes_stand_still_until_they_are_thawed() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.run_script("--name web", PATIENT).await;
        assert_eq!(wharf.ok("pause web").await, "web");
        assert!(wharf.ok("ps").await.contains("(Paused)"));
        let main = Main::of(&wharf, "web").await;
        let frozen = || main.cgroup("freezer", "freezer.state", "cgroup.freeze");
        assert!(["FROZEN", "1"].contains(&&frozen()[..]), "{}", frozen());
        let refused = wharf.fails(1, "start web").await;
        assert!(refused.contains("(CONTAINER_PAUSED, request "), "{refused}");
        assert_eq!(wharf.ok("unpause web").await, "web");
        assert!(["THAWED", "0"].contains(&&frozen()[..]), "{}", frozen());
        assert_eq!(wharf.ok("stop -t 30 web").await, "web");
        assert_eq!(wharf.ok("wait web").await, "7");
    });
}

#[test]
fn top_shows_the_processes_as_the_host_sees_them() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.run_script("--name web -u app", PATIENT).await;
        let pid = wharf.inspect("web").await["pid"].clone();
        let table = wharf.ok("top web").await;
        let heading: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(heading, ["UID", "PID", "PPID", "TIME", "RSS", "CMD"]);

        let processes = wharf.json("top web").await;
        let main = processes.iter().find(|process| process["pid"] == pid);
        let main = main.expect("the main process");
        assert_eq!(main["uid"], 1000);
        assert_eq!(main["args"], serde_json::json!(["sh", "-c", PATIENT]));
        let child = processes.iter().find(|process| process["parentPid"] == pid);
        let child = child.expect("its child");
        assert_eq!(child["args"], serde_json::json!(["sleep", "3600"]));
    });
}

#[test]
fn names_labels_and_restrictions_of_what_is_listed() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .ok("create --name one -l tier=web -l color busybox:test true")
            .await;
        wharf
            .ok("create --name two -l tier=db busybox:test true")
            .await;
        wharf.ok("rename one first").await;
        wharf
            .ok("update -l tier=cache --label-rm color first")
            .await;
        let first = wharf.inspect("first").await;
        assert_eq!(first["labels"], serde_json::json!({"tier": "cache"}));
        let refused = wharf.fails(1, "rename first two").await;
        assert!(
            refused.contains("(CONTAINER_NAME_IN_USE, request "),
            "{refused}"
        );
        let refused = wharf.fails(1, "inspect one").await;
        assert!(
            refused.contains("(CONTAINER_NOT_FOUND, request "),
            "{refused}"
        );

        let names = async |line: &str| -> Vec<String> {
            let found = wharf.json(line).await;
            found
                .iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect()
        };
        // The newest first.
        assert_eq!(names("ps -a").await, ["two", "first"]);
        assert_eq!(names("ps -a -f label=tier=db").await, ["two"]);
        assert_eq!(names("ps -a -f label=tier").await, ["two", "first"]);
        assert_eq!(names("ps -a -f name=first").await, ["first"]);
        assert_eq!(
            names("ps -a -f ancestor=busybox:test -f status=exited").await,
            [""; 0]
        );
        assert_eq!(names("ps").await, [""; 0]);
    });
}

#[test]
fn prune_takes_what_has_exited_and_only_after_a_yes() {
    scenario(async |world| {
        let wharf = up(world).await;
        let dead = wharf.ok("run -d --name dead busybox:test true").await;
        wharf.ok("wait dead").await;
        wharf.ok("create --name unborn busybox:test true").await;
        wharf.run_script("--name alive", PATIENT).await;

        assert_eq!(
            wharf.ok("prune --dry-run").await.lines().next(),
            Some(dead.as_str())
        );
        let unsure = wharf.run("prune").await;
        assert_eq!((unsure.code, unsure.out.as_str()), (1, ""), "{unsure:?}");
        assert!(unsure.err.contains("nothing was deleted"), "{unsure:?}");
        assert_eq!(wharf.ok("ps -aq").await.lines().count(), 3);

        let pruned = wharf.ok("prune --force").await;
        let lines: Vec<_> = pruned.lines().collect();
        assert_eq!(lines[0], dead);
        assert!(lines[1].starts_with("Total reclaimed space: "), "{pruned}");
        assert_eq!(wharf.ok("ps -aq").await.lines().count(), 2);
        let confirmed = answered_yes(wharf.command(["prune"])).await;
        assert_eq!(confirmed.code, 0, "{confirmed:?}");
    });
}

async fn answered_yes(mut command: Command) -> super::Told {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"y\n").unwrap();
    drop(writer);
    command.stdin(reader);
    super::tell(command).await
}

#[test]
fn a_container_that_is_not_to_stay_is_gone_after_its_run() {
    scenario(async |world| {
        let wharf = up(world).await;
        let id = wharf.run_script("--rm", "exit 9").await;
        // The exit status stays readable by id when the container is gone.
        assert_eq!(wharf.ok(&format!("wait {id}")).await, "9");
        crate::harness::until("it is deleted", super::LONGEST, async || {
            let told = wharf.run(&format!("inspect {id}")).await;
            crate::harness::wait::so(told.code == 1, || told.out)
        })
        .await;
        assert_eq!(wharf.ok(&format!("wait {id}")).await, "9");
    });
}

#[test]
fn several_targets_are_told_in_their_order_and_one_that_fails_does_not_stop_the_others() {
    scenario(async |world| {
        let wharf = up(world).await;
        for code in ["3", "4"] {
            wharf
                .run_script(&format!("--name c{code}"), &format!("exit {code}"))
                .await;
        }
        assert_eq!(wharf.ok("wait c4 c3").await, "4\n3");
        let told = wharf.run("rm c3 nobody c4").await;
        assert_eq!((told.code, told.out.as_str()), (1, "c3\nc4\n"));
        assert_eq!(told.err.lines().count(), 1, "{told:?}");
        assert!(
            told.err.contains("(CONTAINER_NOT_FOUND, request "),
            "{told:?}"
        );
        // With force a target that is not there is no failure.
        assert_eq!(wharf.ok("rm -f nobody").await, "nobody");
    });
}

#[test]
fn a_stop_is_what_the_flags_of_run_say_unless_stop_says_otherwise() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .run_script("--name usr --stop-signal USR1 --stop-timeout 60", PATIENT)
            .await;
        wharf.ok("stop usr").await;
        assert_eq!(wharf.ok("wait usr").await, "8");
        wharf.ok("start usr").await;
        wharf.ok("stop -s TERM usr").await;
        assert_eq!(wharf.ok("wait usr").await, "7");

        wharf
            .ok("run -d --name stubborn --stop-timeout 0 busybox:test sleep 3600")
            .await;
        wharf.ok("stop stubborn").await;
        assert_eq!(wharf.ok("wait stubborn").await, "137");
        let events = wharf
            .json("events --follow=false -f container=stubborn")
            .await;
        let signals: Vec<_> = events
            .iter()
            .filter_map(|event| event["signal"].as_str())
            .collect();
        assert_eq!(signals, ["SIGKILL"]);
        let of_usr = wharf.json("events --follow=false -f container=usr").await;
        let signals: Vec<_> = of_usr
            .iter()
            .filter_map(|event| event["signal"].as_str())
            .collect();
        assert_eq!(signals, ["SIGUSR1", "SIGTERM"]);
        assert!(
            of_usr
                .iter()
                .all(|event| event["containerName"] != Value::Null)
        );
    });
}
