//! Images: in, named, listed, used, out.

use std::fs;
use std::process::Stdio;

use super::{Wharf, tell};
use crate::harness::image::{Recipe, busybox};
use crate::harness::{World, scenario};

/// A server without any image, and an archive beside it.
async fn without_images(world: &mut World) -> (Wharf, String) {
    world.start_backend().await;
    world.wharfd.start().await;
    let archive = world.directory().join("busybox.tar");
    fs::write(&archive, busybox()).unwrap();
    (Wharf::of(world), archive.display().to_string())
}

#[test]
fn an_archive_is_imported_listed_tagged_run_and_removed() {
    scenario(async |world| {
        let (wharf, archive) = without_images(world).await;
        assert_eq!(wharf.ok("images -q").await, "");
        assert_eq!(wharf.ok(&format!("import {archive}")).await, "busybox:test");
        assert_eq!(
            wharf
                .ok("tag busybox:test localhost:5000/tools/box:1")
                .await,
            ""
        );
        let table = wharf.ok("images").await;
        let rows: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0][..4], ["REPOSITORY", "TAG", "IMAGE", "ID"]);
        let mut names: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1])).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [("busybox", "test"), ("localhost:5000/tools/box", "1")]
        );
        let id = Recipe::busybox(crate::harness::image::REFERENCE).id();
        for quiet in [
            "images -q",
            "images -q --no-trunc",
            "images -q localhost:5000/*",
        ] {
            assert_eq!(wharf.ok(quiet).await, id, "{quiet}");
        }
        assert_eq!(wharf.ok("images -q other:*").await, "");

        wharf
            .ok("run -d --name user localhost:5000/tools/box:1 true")
            .await;
        assert_eq!(wharf.ok("wait user").await, "0");
        assert_eq!(
            wharf.ok("rmi localhost:5000/tools/box:1").await,
            "Untagged: localhost:5000/tools/box:1"
        );
        let refused = wharf.fails(1, "rmi busybox:test").await;
        assert!(refused.contains("(IMAGE_IN_USE, request "), "{refused}");
        wharf.ok("rm user").await;
        let removed = wharf.ok("rmi busybox:test").await;
        assert!(
            removed.starts_with("Untagged: busybox:test\nDeleted: sha256:"),
            "{removed}"
        );
        assert_eq!(wharf.ok("images -q").await, "");
        let refused = wharf.fails(1, "rmi busybox:test").await;
        assert!(refused.contains("(IMAGE_NOT_FOUND, request "), "{refused}");
        assert_eq!(wharf.ok("rmi -f busybox:test").await, "");
    });
}

#[test]
fn an_archive_comes_through_standard_input_under_a_name_of_ones_own() {
    scenario(async |world| {
        let (wharf, _) = without_images(world).await;
        let nameless = world.directory().join("nameless.tar");
        fs::write(&nameless, Recipe::busybox("").docker_save()).unwrap();
        let mut command = wharf.command(["import", "--reference", "mine:1", "-"]);
        command.stdin(Stdio::from(fs::File::open(&nameless).unwrap()));
        assert_eq!(tell(command).await.ok("import -"), "mine:1");
        let image = &wharf.json("images").await[0];
        assert_eq!(
            image["references"],
            serde_json::json!(["docker.io/library/mine:1"])
        );
        assert!(
            image["contentBytes"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 1_000_000
        );
    });
}

#[test]
fn inspect_finds_images_and_their_configuration() {
    scenario(async |world| {
        let (wharf, archive) = without_images(world).await;
        let imported = wharf.json(&format!("import {archive}")).await;
        let line = "inspect busybox:test";
        let found = super::parse(line, &wharf.ok(line).await);
        assert_eq!(found[0]["id"], imported[0]["id"]);
        assert_eq!(found[0]["config"]["config"]["Env"][1], "IMAGE=busybox");
        let refused = wharf.fails(1, "inspect nobody").await;
        assert!(
            refused.contains("(CONTAINER_NOT_FOUND, request "),
            "{refused}"
        );
        let refused = wharf.fails(1, "inspect --type image nobody").await;
        assert!(refused.contains("(IMAGE_NOT_FOUND, request "), "{refused}");
    });
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() {
    scenario(async |world| {
        let (wharf, _) = without_images(world).await;
        let file = world.directory().join("junk.tar");
        for (junk, reason) in [
            (&b"not a tar at all"[..], "IMAGE_INVALID"),
            (b"", "IMAGE_INVALID"),
        ] {
            fs::write(&file, junk).unwrap();
            let said = wharf.fails(1, &format!("import {}", file.display())).await;
            assert!(said.contains(&format!("({reason}, request ")), "{said}");
        }
        let said = wharf.fails(1, "import /nonexistent/archive.tar").await;
        assert!(
            said.starts_with("cannot read /nonexistent/archive.tar: "),
            "{said}"
        );
        assert_eq!(wharf.ok("images -q").await, "");
    });
}
