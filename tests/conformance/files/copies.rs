//! `wharf cp`, in all the ways that docker's habits know.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use super::{Archive, BUSY};
use crate::harness::tree::{differences, make, prints};
use crate::harness::wharf::Wharf;
use crate::harness::{World, process, scenario};

/// A running container and one that never ran.
async fn two_containers(world: &mut World) -> (Wharf, PathBuf) {
    let client = world.up().await;
    client.run("running", BUSY).await.unwrap();
    client.create("stopped", BUSY).await.unwrap();
    (Wharf::of(world), world.directory().to_owned())
}

#[test]
fn ten_thousand_files_and_one_of_everything_come_back_exactly() {
    scenario(async |world| {
        let (wharf, place) = two_containers(world).await;
        fs::create_dir(place.join("tree")).unwrap();
        make(&place.join("tree"), 10_000);
        let before = prints(&place.join("tree"));
        assert!(before.len() > 10_000);
        for container in ["running", "stopped"] {
            wharf.ok(&format!("cp -a tree {container}:/copied")).await;
            wharf
                .ok(&format!("cp -a {container}:/copied back-{container}"))
                .await;
            let after = prints(&place.join(format!("back-{container}")));
            assert_eq!(differences(&after, &before), [""; 0], "{container}");
        }
    });
}

#[test]
fn a_copy_goes_where_docker_puts_it() {
    scenario(async |world| {
        let (wharf, place) = two_containers(world).await;
        let read = |path: &str| fs::read_to_string(place.join(path)).unwrap();
        fs::create_dir_all(place.join("dir/sub")).unwrap();
        fs::write(place.join("dir/sub/file"), "deep").unwrap();
        fs::write(place.join("file"), "plain").unwrap();
        std::os::unix::fs::symlink("file", place.join("link")).unwrap();
        for c in ["running", "stopped"] {
            // Into the container: to a name, over a file, into a directory, through a link.
            wharf.ok(&format!("cp file {c}:/renamed")).await;
            wharf.ok(&format!("cp file {c}:/renamed")).await;
            wharf.ok(&format!("cp file {c}:tmp")).await;
            wharf.ok(&format!("cp dir {c}:/new")).await;
            wharf.ok(&format!("cp dir {c}:/tmp/")).await;
            wharf.ok(&format!("cp dir/. {c}:/tmp")).await;
            wharf.ok(&format!("cp link {c}:/tmp/a-link")).await;
            wharf.ok(&format!("cp -L link {c}:/tmp/no-link")).await;
            for (path, local, content) in [
                ("/renamed", "o1", "plain"),
                ("/tmp/file", "o2", "plain"),
                ("/new/sub/file", "o3", "deep"),
                ("/tmp/dir/sub/file", "o4", "deep"),
                ("/tmp/sub/file", "o5", "deep"),
                ("/tmp/no-link", "o6", "plain"),
            ] {
                wharf.ok(&format!("cp {c}:{path} {local}")).await;
                assert_eq!(read(local), content, "{c}:{path}");
            }
            wharf
                .ok(&format!("cp {c}:/tmp/a-link copied-link-{c}"))
                .await;
            let link = fs::read_link(place.join(format!("copied-link-{c}"))).unwrap();
            assert_eq!(link.to_str(), Some("file"));
            wharf
                .ok(&format!("cp -L {c}:/tmp/a-link followed-{c}"))
                .await;
            assert_eq!(read(&format!("followed-{c}")), "plain");

            // Out of it.
            let out = format!("out-{c}");
            fs::create_dir(place.join(&out)).unwrap();
            wharf.ok(&format!("cp {c}:/new {out}")).await;
            wharf.ok(&format!("cp {c}:/new/. {out}")).await;
            wharf.ok(&format!("cp {c}:/new {out}/other")).await;
            for path in ["new/sub/file", "sub/file", "other/sub/file"] {
                assert_eq!(read(&format!("{out}/{path}")), "deep");
            }

            // What cannot be meant.
            wharf.fails(1, &format!("cp dir {c}:/renamed")).await;
            wharf.fails(1, &format!("cp file {c}:/missing/")).await;
            let missing = wharf.fails(1, &format!("cp {c}:/missing here")).await;
            assert!(missing.contains("PATH_NOT_FOUND"), "{missing}");
            wharf.fails(1, &format!("cp {c}:/new file")).await;
            wharf
                .fails(1, &format!("cp {c}:/renamed no-such-dir/"))
                .await;
        }
        wharf.fails(125, "cp file elsewhere").await;
        wharf.fails(125, "cp running:/tmp stopped:/tmp").await;
        assert_eq!(
            fs::read_dir(&place)
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name() == "here" })
                .count(),
            0
        );
    });
}

#[test]
fn a_tar_goes_through_standard_input_and_output() {
    scenario(async |world| {
        let (wharf, place) = two_containers(world).await;
        let archive = Archive::default().file("from-tar", "content").end();
        fs::write(place.join("in.tar"), archive).unwrap();
        let mut command = wharf.command(["cp", "-", "running:/tmp"]);
        command.stdin(Stdio::from(fs::File::open(place.join("in.tar")).unwrap()));
        let output = process::run_with_input(command, std::time::Duration::from_secs(60)).await;
        assert!(output.status.success(), "{output:?}");
        let command = wharf.command(["cp", "running:/tmp/from-tar", "-"]);
        let output = process::run(command, std::time::Duration::from_secs(60)).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let mut tar = tar::Archive::new(&output.stdout[..]);
        let names: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names, [PathBuf::from("from-tar")]);
    });
}

#[test]
fn owners_are_the_containers_user_unless_they_are_to_be_kept() {
    scenario(async |world| {
        let client = world.up().await;
        let wharf = Wharf::of(world);
        let place = world.directory().to_owned();
        wharf
            .ok_words(&[
                "create",
                "--name",
                "app",
                "-u",
                "app",
                crate::harness::wharf::IMAGE,
                "true",
            ])
            .await;
        fs::write(place.join("file"), "x").unwrap();
        std::os::unix::fs::chown(place.join("file"), Some(7), Some(8)).unwrap();
        wharf.ok("cp file app:/plain").await;
        wharf.ok("cp -a file app:/kept").await;
        for (path, owner) in [("/plain", (1000, 1000)), ("/kept", (7, 8))] {
            let request = wharf_api::v1::StatPathRequest {
                container: "app".to_owned(),
                path: path.to_owned(),
            };
            let stat = client.stat_path(request).await.unwrap().stat.unwrap();
            assert_eq!((stat.uid, stat.gid), owner, "{path}");
        }
    });
}
