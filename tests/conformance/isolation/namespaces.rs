//! A container's namespaces are its own, and it sees nothing of the host's.

use std::collections::BTreeMap;
use std::fs;

use wharf_api::v1::{ContainerSpec, HostNetwork, NetworkSpec, network_spec::Mode};

use super::{exec_said, run, running, said, script, start, up, waiting};
use crate::harness::{Client, scenario};

const KINDS: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
const LIST: &str = "for kind in cgroup ipc mnt net pid uts; do \
    echo $kind $(busybox readlink /proc/self/ns/$kind); done";

type Namespaces = BTreeMap<String, String>;

fn listed(text: &str) -> Namespaces {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn of_the_host() -> Namespaces {
    let target = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let pair = |kind: &str| (kind.to_owned(), target(kind).display().to_string());
    KINDS.into_iter().map(pair).collect()
}

async fn of(client: &Client, container: &str) -> Namespaces {
    let all = listed(&exec_said(client, container, &["sh", "-c", LIST]).await);
    assert_eq!(all.len(), KINDS.len(), "{all:?}");
    all
}

fn shared(one: &Namespaces, other: &Namespaces) -> Vec<String> {
    let same = one.iter().filter(|(kind, id)| other.get(*kind) == Some(id));
    same.map(|(kind, _)| kind.clone()).collect()
}

fn in_network(spec: ContainerSpec, mode: Mode) -> ContainerSpec {
    ContainerSpec {
        network: Some(NetworkSpec { mode: Some(mode) }),
        ..spec
    }
}

#[test]
fn every_namespace_is_the_containers_own() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "one", waiting()).await;
        start(&client, "two", waiting()).await;
        let (one, two) = (of(&client, "one").await, of(&client, "two").await);
        assert_eq!(shared(&one, &of_the_host()), [""; 0]);
        assert_eq!(shared(&one, &two), [""; 0]);
        // An exec is where the main process is.
        let main = exec_said(&client, "one", &["sh", "-c", &LIST.replace("self", "1")]).await;
        assert_eq!(listed(&main), one);

        let with_one = Mode::Container("one".to_owned());
        start(&client, "three", in_network(waiting(), with_one)).await;
        let three = of(&client, "three").await;
        assert_eq!(shared(&one, &three), ["net"]);
        assert_eq!(shared(&three, &of_the_host()), [""; 0]);

        let with_host = Mode::Host(HostNetwork {});
        start(&client, "four", in_network(waiting(), with_host)).await;
        assert_eq!(shared(&of(&client, "four").await, &of_the_host()), ["net"]);
    });
}

#[test]
fn a_network_of_ones_own_has_a_loopback_and_nothing_else() {
    scenario(async |world| {
        let client = up(world).await;
        let links = said(&client, script("ls /sys/class/net; ip -o addr; ip route")).await;
        assert!(links.starts_with("lo\n"), "{links}");
        assert!(
            links.contains("127.0.0.1"),
            "the loopback is not up: {links}"
        );
        for line in links.lines() {
            assert!(line == "lo" || line.contains(": lo "), "{line}");
        }
    });
}

#[test]
fn the_hosts_processes_are_not_seen_and_not_signalled() {
    scenario(async |world| {
        let client = up(world).await;
        let own = std::process::id();
        let server = world.wharfd.pid();
        let pids = said(&client, script("echo /proc/[0-9]*")).await;
        let pids: Vec<_> = pids.split_whitespace().collect();
        // The shell, whose builtin lists them.
        assert_eq!(pids, ["/proc/1"], "{pids:?}");
        for pid in [own, server] {
            let args = format!("kill -0 {pid}");
            assert_ne!(run(&client, script(&args)).await.exit.code, 0);
        }
        let peers = script("echo $PPID; cat /proc/1/stat | sed 's/.*) . //' | sed 's/ .*//'");
        assert_eq!(said(&client, peers).await, "0\n0\n", "somebody is outside");
    });
}

#[test]
fn the_table_of_mounts_names_nothing_of_the_host() {
    scenario(async |world| {
        let client = up(world).await;
        let shared = super::directory(world, "shared");
        let spec = ContainerSpec {
            mounts: vec![super::bind(&shared, "/shared")],
            ..running(&["cat", "/proc/self/mountinfo"])
        };
        let table = said(&client, spec).await;
        for line in table.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let (root, target) = (fields[3], fields[4]);
            let kind = fields[fields.iter().position(|f| *f == "-").unwrap() + 1];
            let own_kind =
                ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay"].contains(&kind);
            let of_cgroups = kind.starts_with("cgroup");
            let is_asked_for = target == "/shared" && root.ends_with("/shared");
            // Null devices hide files; crun takes the host's.
            let hides = root == "/null" && kind == "devtmpfs" && target.starts_with("/proc/");
            assert!(own_kind || of_cgroups || is_asked_for || hides, "{line}");
        }
        let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
        let twice: Vec<_> = targets.filter(|target| *target == "/").collect();
        assert_eq!(twice, ["/"], "a root below the root: {table}");
    });
}

#[test]
fn the_hosts_files_are_not_reached_by_any_way_up() {
    scenario(async |world| {
        let client = up(world).await;
        let secret = world.directory().join("secret");
        fs::write(&secret, "the host's").unwrap();
        let secret = secret.display();
        let script = script(&format!(
            "cat {secret} ../../../../../..{secret} /proc/1/root{secret} /proc/self/cwd/../..{secret} \
             /proc/1/cwd/../../..{secret} 2>/dev/null; ls /"
        ));
        let said = said(&client, script).await;
        assert!(!said.contains("the host's"), "{said}");
        let mut root: Vec<_> = said.lines().collect();
        root.sort_unstable();
        let expected = [
            "bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var",
        ];
        assert_eq!(root, expected);
    });
}
