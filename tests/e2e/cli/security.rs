//! What a container may do, and what it cannot see.

use super::look::{Main, Window, host_namespace};
use super::up;
use crate::harness::scenario;

/// Bits of `linux/capability.h`.
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service.
const DEFAULT: u64 = 0b101_1111_1011;

fn capabilities(main: Main, set: &str) -> u64 {
    u64::from_str_radix(&main.status()[set], 16).unwrap()
}

#[test]
fn a_container_has_few_privileges_unless_it_is_given_more() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.run_script("--name plain", "exec sleep 3600").await;
        let main = Main::of(&wharf, "plain").await;
        let status = main.status();
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Seccomp"], "2");
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(capabilities(main, set), DEFAULT, "{set} is {}", status[set]);
        }
        assert_eq!(capabilities(main, "CapAmb"), 0);

        let flags = "--name little --cap-drop ALL --cap-add net_bind_service";
        wharf.run_script(flags, "exec sleep 3600").await;
        let main = Main::of(&wharf, "little").await;
        assert_eq!(capabilities(main, "CapEff"), NET_BIND_SERVICE);
        assert_eq!(capabilities(main, "CapBnd"), NET_BIND_SERVICE);

        let flags = "--name more --cap-add NET_ADMIN --security-opt no-new-privileges=false \
                     --security-opt seccomp=unconfined";
        wharf.run_script(flags, "exec sleep 3600").await;
        let main = Main::of(&wharf, "more").await;
        assert_eq!(capabilities(main, "CapEff"), DEFAULT | NET_ADMIN);
        assert_eq!(
            (
                &main.status()["NoNewPrivs"][..],
                &main.status()["Seccomp"][..]
            ),
            ("0", "0")
        );

        // Somebody who is not root has none in effect.
        wharf
            .run_script("--name user -u app", "exec sleep 3600")
            .await;
        let main = Main::of(&wharf, "user").await;
        assert_eq!(capabilities(main, "CapEff"), 0);
        assert_eq!(main.status()["Uid"], "1000\t1000\t1000\t1000");
    });
}

#[test]
fn a_profile_of_ones_own_decides_what_the_kernel_is_asked() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let profile = world.directory().join("seccomp.json");
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
        std::fs::write(&profile, text).unwrap();
        let flags = format!("--security-opt seccomp={}", profile.display());
        let script = "mkdir /tmp/x 2>/window/said && exit 1; touch /tmp/y";
        window.after(&wharf, &flags, script).await;
        assert!(window.read("said").contains("Operation not permitted"));
        window.after(&wharf, "", "mkdir /tmp/x").await;

        std::fs::write(&profile, "{\"defaultAction\": \"SCMP_ACT_MAYBE\"}").unwrap();
        let refused = wharf
            .fails(125, &format!("run -d {flags} busybox:test true"))
            .await;
        assert!(
            refused.contains("(INVALID_FIELD, ") || refused.contains("(SECURITY_PROFILE_INVALID, "),
            "{refused}"
        );
    });
}

#[test]
fn what_belongs_to_the_host_is_hidden_or_read_only() {
    scenario(async |world| {
        let wharf = up(world).await;
        let window = Window::open(world);
        let script = "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c > /window/kcore; \
                      ls /sys/firmware | wc -l > /window/firmware; \
                      echo 1 > /proc/sys/kernel/sysrq && exit 1; \
                      echo b > /proc/sysrq-trigger && exit 2; \
                      touch /sys/x && exit 3; \
                      mount -t tmpfs none /tmp && exit 4; \
                      dd if=/dev/mem of=/dev/null count=1 && exit 5; \
                      ls /dev > /window/dev";
        window
            .after(&wharf, "", &format!("({script}) 2>/dev/null"))
            .await;
        assert_eq!(
            (window.read("kcore"), window.read("firmware")),
            ("0".into(), "0".into())
        );
        let devices = window.read("dev");
        for device in devices.lines() {
            let known = [
                "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
                "stderr", "stdin", "stdout", "tty", "urandom", "zero",
            ];
            assert!(known.contains(&device), "/dev/{device} is there");
        }
        wharf.run_script("--name masked", "exec sleep 3600").await;
        let main = Main::of(&wharf, "masked").await;
        for path in [
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/sys/firmware",
        ] {
            if std::path::Path::new(path).exists() {
                assert!(main.mount(path).is_some(), "{path} is not masked");
            }
        }
        for path in ["/proc/sys", "/proc/bus", "/proc/irq", "/sys"] {
            let options = main.mount(path).expect(path);
            assert!(options.starts_with("ro,"), "{path}: {options}");
        }
    });
}

#[test]
fn a_container_has_namespaces_of_its_own() {
    scenario(async |world| {
        let wharf = up(world).await;
        for name in ["one", "two"] {
            wharf
                .run_script(&format!("--name {name}"), "exec sleep 3600")
                .await;
        }
        let one = Main::of(&wharf, "one").await;
        let two = Main::of(&wharf, "two").await;
        for kind in ["pid", "mnt", "ipc", "uts", "net", "cgroup"] {
            assert_ne!(
                one.namespace(kind),
                host_namespace(kind),
                "the host's {kind}"
            );
            assert_ne!(
                one.namespace(kind),
                two.namespace(kind),
                "the other's {kind}"
            );
        }
        let window = Window::open(world);
        let script = "echo $$ > /window/pid; hostname > /window/name; \
                      ls /proc | grep -c '^[0-9]' > /window/processes";
        window.after(&wharf, "--name three", script).await;
        assert_eq!(window.read("pid"), "1");
        let id = wharf.inspect("three").await["id"].clone();
        assert_eq!(window.read("name"), id.as_str().unwrap()[..12]);
        let processes: u32 = window.read("processes").parse().unwrap();
        assert!(processes <= 4, "{processes} processes are seen");
    });
}
