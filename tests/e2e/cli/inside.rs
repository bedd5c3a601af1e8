//! What the flags of `run` make of the process and its files, looked at from inside.

use std::fs;

use super::look::{Main, Window};
use super::up;
use crate::harness::containerd::bundles;
use crate::harness::{containerd_only, scenario};

#[test]
fn environment_user_groups_directory_and_host_name_are_those_of_the_flags() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let file = world.directory().join("env");
        fs::write(&file, "# a note\nFROM_FILE=1\nOVER=file\n").unwrap();
        let flags = format!(
            "-e A=b=c -e OVER=flag --env-file {} -u app --group-add staff --group-add 4242 \
             -w /home/app -h box",
            file.display()
        );
        let script = "cd /window && env > env && id > id && hostname > name; pwd > /dev/null; \
                      echo $OLDPWD > dir";
        window.after(&wharf, &flags, script).await;
        let environment = window.read("env");
        for setting in [
            "A=b=c",
            "OVER=flag",
            "FROM_FILE=1",
            "IMAGE=busybox",
            "HOME=/home/app",
        ] {
            assert!(
                environment.lines().any(|line| line == setting),
                "no {setting} in {environment}"
            );
        }
        let id = window.read("id");
        assert!(
            id.starts_with("uid=1000(app) gid=1000(app) groups="),
            "{id}"
        );
        for group in ["44(video)", "50(staff)", "4242"] {
            assert!(id.contains(group), "no {group} in {id}");
        }
        assert_eq!(window.read("name"), "box");
        assert_eq!(window.read("dir"), "/home/app");
    });
}

#[test]
fn entrypoint_and_arguments_arrive_as_they_were_typed() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let flag = window.flag();
        let mount: Vec<_> = flag.split(' ').collect();
        let script = "echo \"$0|$1|$2|$#\" > /window/args";
        let words = [
            &["run", "-d", "--name", "odd", "--entrypoint", "sh"],
            &mount[..],
            &["busybox:test", "-c", script, "two words", "", "$HOME --rm"],
        ]
        .concat();
        wharf.ok_words(&words).await;
        assert_eq!(wharf.ok("wait odd").await, "0");
        assert_eq!(window.read("args"), "two words||$HOME --rm|2");
    });
}

#[test]
fn a_read_only_root_takes_nothing_but_its_mounts_do() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let script = "touch /x 2>/dev/null && exit 1; touch /etc/x 2>/dev/null && exit 2; \
                      echo seen > /window/seen && echo kept > /scratch/kept && echo kept > /dev/shm/kept";
        window
            .after(&wharf, "--read-only --tmpfs /scratch", script)
            .await;
        assert_eq!(window.read("seen"), "seen");
        window.after(&wharf, "", "touch /x /etc/x").await;
    });
}

#[test]
fn directories_of_the_host_are_mounted_as_the_flags_say() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let data = world.directory().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("from-host"), "from host").unwrap();
        let made = world.directory().join("made/on/the/way");
        let flags = format!(
            "-v {0}:/rw -v {0}:/ro:ro --mount type=bind,source={0},target=/fixed,readonly -v {1}:/made",
            data.display(),
            made.display()
        );
        let script = "cat /rw/from-host /ro/from-host /fixed/from-host > /window/read || exit 1; \
                      echo from container > /rw/from-container || exit 2; \
                      echo made > /made/file || exit 3; \
                      touch /ro/x 2>/dev/null && exit 4; touch /fixed/x 2>/dev/null && exit 5; \
                      cat /ro/from-container > /window/again";
        window.after(&wharf, &flags, script).await;
        assert_eq!(window.read("read"), "from host".repeat(3));
        assert_eq!(window.read("again"), "from container");
        assert_eq!(fs::read_to_string(made.join("file")).unwrap(), "made\n");

        let missing = format!("/nonexistent-{}", std::process::id());
        let line = format!(
            "run -d --name none --mount type=bind,source={missing},target=/x busybox:test true"
        );
        let refused = wharf.fails(125, &line).await;
        assert!(
            refused.contains("(MOUNT_FAILED, request ") && refused.contains(&missing),
            "{refused}"
        );
        assert_eq!(
            wharf.ok("ps -aq -f name=none").await,
            "",
            "it is created or it is not"
        );
    });
}

#[test]
fn memory_is_mounted_with_its_size_and_mode() {
    scenario(async |world| {
        let wharf = up(world).await;
        let flags = "--name m --tmpfs /t:size=1m,mode=1770 --shm-size 2m \
                     --mount type=tmpfs,target=/u,tmpfs-size=3m,readonly";
        wharf.run_script(flags, "exec sleep 3600").await;
        let main = Main::of(&wharf, "m").await;
        for (target, options) in [
            ("/t", ["rw", "size=1024k", "mode=1770", "nosuid", "nodev"]),
            ("/u", ["ro", "size=3072k", "nosuid", "nodev", "noexec"]),
            (
                "/dev/shm",
                ["rw", "size=2048k", "nosuid", "nodev", "noexec"],
            ),
        ] {
            let mount = main.mount(target).expect(target);
            for option in options {
                assert!(
                    mount.split(',').any(|o| o == option),
                    "{target}: no {option} in {mount}"
                );
            }
        }
    });
}

#[test]
fn annotations_reach_the_runtime() {
    containerd_only(
        "its bundle shows what the runtime was told",
        async |world| {
            let wharf = up(world).await;
            let flags = "--name noted --annotation org.example.team=storage";
            let id = wharf.run_script(flags, "exec sleep 3600").await;
            let shown = &wharf.inspect("noted").await["spec"]["annotations"];
            assert_eq!(shown["org.example.team"], "storage");
            let bundle = bundles(world.directory()).join(id).join("config.json");
            let config = super::parse("config.json", &fs::read_to_string(bundle).unwrap());
            assert_eq!(config["annotations"]["org.example.team"], "storage");
        },
    );
}
