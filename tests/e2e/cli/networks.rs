//! Networks: none, the host's, another container's, and one somebody else has made.

use super::look::{Main, Window, host_namespace};
use super::up;
use crate::harness::scenario;

fn interfaces(table: &str) -> Vec<&str> {
    let rows = table.lines().filter_map(|line| line.split_once(':'));
    rows.map(|(name, _)| name.trim()).collect()
}

#[test]
fn without_a_network_there_is_only_the_loopback() {
    scenario(async |world| {
        let wharf = up(world).await;
        for flags in ["--name plain", "--name none --network none"] {
            wharf.run_script(flags, "exec sleep 3600").await;
        }
        for name in ["plain", "none"] {
            let main = Main::of(&wharf, name).await;
            assert_ne!(main.namespace("net"), host_namespace("net"));
            assert_eq!(interfaces(&main.read("net/dev")), ["lo"]);
        }
    });
}

#[test]
fn the_hosts_network_is_the_hosts_and_its_name_too() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .run_script("--name open --network host", "exec sleep 3600")
            .await;
        let main = Main::of(&wharf, "open").await;
        assert_eq!(main.namespace("net"), host_namespace("net"));
        for kind in ["pid", "mnt", "ipc", "uts"] {
            assert_ne!(
                main.namespace(kind),
                host_namespace(kind),
                "the host's {kind}"
            );
        }
        let window = Window::open(world);
        window
            .after(&wharf, "--network host", "hostname > /window/name")
            .await;
        let own = rustix::system::uname();
        assert_eq!(window.read("name"), own.nodename().to_str().unwrap());
    });
}

#[test]
fn a_container_shares_the_network_of_another_by_name_also_after_its_restart() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .ok("run -d --name first --stop-timeout 0 busybox:test sleep 3600")
            .await;
        wharf.ok("run -d --name second --stop-timeout 0 --network container:first busybox:test sleep 3600").await;
        let first = Main::of(&wharf, "first").await;
        let second = Main::of(&wharf, "second").await;
        assert_eq!(first.namespace("net"), second.namespace("net"));
        assert_ne!(first.namespace("net"), host_namespace("net"));
        assert_ne!(first.namespace("mnt"), second.namespace("mnt"));

        wharf.ok("restart first").await;
        wharf.ok("restart second").await;
        let first = Main::of(&wharf, "first").await;
        let second = Main::of(&wharf, "second").await;
        assert_eq!(first.namespace("net"), second.namespace("net"));

        wharf.ok("stop second first").await;
        let refused = wharf.fails(1, "start second").await;
        assert!(
            refused.contains("(CONTAINER_NOT_RUNNING, request "),
            "{refused}"
        );
        let line = "run -d --network container:nobody busybox:test true";
        let refused = wharf.fails(125, line).await;
        assert!(
            refused.contains("(CONTAINER_NOT_FOUND, request "),
            "{refused}"
        );
    });
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .ok("run -d --name owner busybox:test sleep 3600")
            .await;
        let pid = wharf.inspect("owner").await["pid"].clone();
        let line = format!(
            "run -d --name guest --network path:/proc/{pid}/ns/net busybox:test sleep 3600"
        );
        wharf.ok(&line).await;
        let owner = Main::of(&wharf, "owner").await;
        let guest = Main::of(&wharf, "guest").await;
        assert_eq!(owner.namespace("net"), guest.namespace("net"));
    });
}
