//! What scripts read: JSON with the API's names, versions and information.

use serde_json::{Value, json};

use super::{IMAGE, up};
use crate::harness::{Backend, scenario};

#[test]
fn every_listing_is_json_with_the_names_of_the_api() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = [
            "run", "-d", "--name", "web", "-l", "a=b", IMAGE, "sleep", "3600",
        ];
        let id = wharf.ok_words(&words).await;
        let container = &wharf.json("ps").await[0];
        assert_eq!(container["id"], id);
        assert_eq!(container["state"], "STATE_RUNNING");
        assert_eq!(container["run"], "1");
        assert_eq!(container["labels"], json!({"a": "b"}));
        assert_eq!(container["image"], IMAGE, "as asked for");
        // As a list and alone it is the same object; the list's is the full view, too.
        assert_eq!(*container, wharf.inspect("web").await);
        assert_eq!(wharf.json("inspect web").await[0], *container);

        assert_eq!(wharf.json("top web").await[0]["pid"], container["pid"]);
        let stats = &wharf.json("stats --no-stream web").await[0];
        assert_eq!(stats["containerId"], id);
        assert_eq!(stats["pids"], "1");
        assert!(stats["cpu"]["cores"].is_number(), "{stats}");
        assert_eq!(wharf.json("images").await.len(), 1);
        let info = &wharf.json("info").await[0];
        assert_eq!(info["containers"]["STATE_RUNNING"], 1);
        assert_eq!(info["backend"], Backend::of_this_run().name());
        let principal = format!("uid:{}", rustix::process::getuid().as_raw());
        assert_eq!(info["principal"], principal);

        wharf.ok("kill web").await;
        wharf.ok("wait web").await;
        let pruned = &wharf.json("prune --force").await[0];
        assert_eq!(pruned["containerId"], id);
    });
}

#[test]
fn what_containers_use_is_a_table_and_follows_them() {
    scenario(async |world| {
        let wharf = up(world).await;
        let heading =
            "CONTAINER ID   NAME   CPU %   MEM USAGE / LIMIT   MEM %   NET I/O   BLOCK I/O   PIDS";
        assert_eq!(wharf.ok("stats --no-stream").await, heading);
        wharf
            .run_script("--name web -m 64m", "exec sleep 3600")
            .await;
        wharf.run_script("--name other", "exec sleep 3600").await;
        let table = wharf.ok("stats --no-stream --interval 200ms web").await;
        let rows: Vec<_> = table.lines().skip(1).collect();
        assert_eq!(rows.len(), 1, "{table}");
        for shown in ["web", "%", " / 67.1MB", "0B / 0B"] {
            assert!(rows[0].contains(shown), "no {shown} in {table}");
        }
        let refused = wharf.fails(1, "stats --no-stream none").await;
        assert!(refused.contains("(CONTAINER_NOT_FOUND, "), "{refused}");
        let refused = wharf.fails(1, "stats --interval 99ms").await;
        assert!(refused.contains("(INVALID_FIELD, "), "{refused}");

        let following = ["stats", "--interval", "100ms", "--filter", "name=web"];
        let mut following = tokio::process::Command::from(wharf.command(following));
        let mut following = following
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = tokio::io::BufReader::new(following.stdout.take().unwrap());
        let mut lines = tokio::io::AsyncBufReadExt::lines(lines);
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let line = tokio::time::timeout(super::LONGEST, lines.next_line()).await;
            seen.push(line.unwrap().unwrap().unwrap());
        }
        assert!(seen[0].starts_with("CONTAINER ID"), "{seen:?}");
        assert!(
            seen[1..].iter().all(|row| row.contains(" web ")),
            "{seen:?}"
        );
        assert!(seen[3].contains("0.00%"), "{seen:?}");
        following.kill().await.unwrap();
    });
}

#[test]
fn versions_and_information_are_told_to_people_too() {
    scenario(async |world| {
        let wharf = up(world).await;
        let version = wharf.ok("version").await;
        for line in [
            "Client:",
            "Server:",
            " Version:  0.1.0",
            " API:      wharf.v1",
        ] {
            assert!(
                version.lines().any(|shown| shown == line),
                "no {line:?} in {version}"
            );
        }
        let backend = Backend::of_this_run().name();
        assert!(
            version.contains(&format!(" Backend:  {backend} ")),
            "{version}"
        );
        let report = &wharf.json("version").await[0];
        assert_eq!(report["client"]["version"], report["server"]["version"]);
        assert_eq!(report["server"]["apiPackages"], json!(["wharf.v1"]));

        wharf.ok("create --name idle busybox:test").await;
        let info = wharf.ok("info").await;
        for line in [
            &format!("Backend: {backend}"),
            "Containers: 1",
            " Created: 1",
            " BackendReady: true",
        ] {
            assert!(
                info.lines().any(|shown| shown == line),
                "no {line:?} in {info}"
            );
        }
    });
}

#[test]
fn labels_cannot_forge_lines_or_steer_the_terminal() {
    scenario(async |world| {
        let wharf = up(world).await;
        let label = "evil=\u{1b}[31mred\ncontainer-exited forged";
        wharf
            .ok_words(&[
                "create",
                "--name",
                "web",
                "-l",
                label,
                IMAGE,
                "sh",
                "\u{1b}[2J",
            ])
            .await;
        assert_eq!(
            wharf.inspect("web").await["labels"]["evil"],
            label["evil=".len()..]
        );
        let shown = wharf.ok("ps -a --no-trunc").await + &wharf.ok("events --follow=false").await;
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        assert!(
            !shown
                .lines()
                .any(|line| line.starts_with("container-exited")),
            "{shown}"
        );
    });
}

#[test]
fn more_containers_than_fit_on_a_page_are_all_listed() {
    scenario(async |world| {
        let wharf = up(world).await;
        let client = world.wharfd.client();
        for number in 0..120 {
            client
                .create(&format!("c{number}"), &["true"])
                .await
                .unwrap();
        }
        let listed = wharf.json("ps -a").await;
        let names: std::collections::BTreeSet<_> = listed
            .iter()
            .map(|container| container["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), 120);
        assert!(
            listed
                .iter()
                .all(|container| container["spec"] != Value::Null)
        );
    });
}
