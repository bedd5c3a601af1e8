//! Capabilities, new privileges, and the calls that the kernel refuses.

use std::collections::BTreeMap;

use wharf_api::v1::{ContainerSpec, ExecSpec, ProcessSpec};

use super::{
    exec_said, exec_spec_said, field, running, said, start, unconfined, up, waiting,
    with_capabilities,
};
use crate::harness::streams::exec;
use crate::harness::{Client, scenario};

/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service.
const DEFAULT: u64 = 0b101_1111_1011;
const NET_ADMIN: u64 = 1 << 12;
const SETUID: u64 = 1 << 7;

const STATUS: &[&str] = &["cat", "/proc/self/status"];

/// Inheritable, permitted, effective, bounding and ambient.
fn sets(status: &str) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(&field(status, name), 16).unwrap())
}

fn as_user(mut spec: ContainerSpec, user: &str) -> ContainerSpec {
    spec.process.get_or_insert_default().user = user.to_owned();
    spec
}

fn exec_as(user: &str) -> ExecSpec {
    let mut spec = exec(STATUS);
    spec.process = Some(ProcessSpec {
        user: user.to_owned(),
        ..spec.process.unwrap()
    });
    spec
}

fn of_the_host() -> u64 {
    sets(&std::fs::read_to_string("/proc/self/status").unwrap())[3]
}

#[test]
fn capabilities_are_the_nine_for_root_and_a_bound_for_others() {
    scenario(async |world| {
        let client = up(world).await;
        let root = [0, DEFAULT, DEFAULT, DEFAULT, 0];
        let user = [0, 0, 0, DEFAULT, 0];
        assert_eq!(sets(&said(&client, running(STATUS)).await), root);
        assert_eq!(
            sets(&said(&client, as_user(running(STATUS), "app")).await),
            user
        );

        start(&client, "c", waiting()).await;
        assert_eq!(sets(&exec_said(&client, "c", STATUS).await), root);
        assert_eq!(
            sets(&exec_spec_said(&client, "c", exec_as("app")).await),
            user
        );

        let changed = with_capabilities(waiting(), &["CAP_NET_ADMIN"], &["CAP_SETUID"]);
        start(&client, "changed", changed.clone()).await;
        let wanted = DEFAULT & !SETUID | NET_ADMIN;
        let expected = [0, wanted, wanted, wanted, 0];
        let main = exec_said(&client, "changed", &["cat", "/proc/1/status"]).await;
        assert_eq!(sets(&main), expected);
        assert_eq!(sets(&exec_said(&client, "changed", STATUS).await), expected);

        let none = with_capabilities(running(STATUS), &[], &["ALL"]);
        assert_eq!(sets(&said(&client, none).await), [0; 5]);
    });
}

#[test]
fn a_privileged_exec_has_what_the_host_has_and_leaves_the_rest_of_the_container_alone() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        let spec = ExecSpec {
            privileged: true,
            ..exec(STATUS)
        };
        let status = exec_spec_said(&client, "c", spec).await;
        let all = of_the_host();
        assert_eq!(sets(&status), [0, all, all, all, 0]);
        assert_eq!(field(&status, "NoNewPrivs"), "0");
        // The next one is as any.
        let status = exec_said(&client, "c", STATUS).await;
        assert_eq!(sets(&status), [0, DEFAULT, DEFAULT, DEFAULT, 0]);
        assert_eq!(field(&status, "NoNewPrivs"), "1");
    });
}

#[test]
fn no_process_gains_privileges_or_goes_without_a_filter() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        for status in [
            said(&client, running(STATUS)).await,
            exec_said(&client, "c", STATUS).await,
            exec_said(&client, "c", &["cat", "/proc/1/status"]).await,
        ] {
            let confinement = ["NoNewPrivs", "Seccomp"].map(|name| field(&status, name));
            assert_eq!(confinement, ["1", "2"]);
        }
        // What a set-user-id program would get, a user does not.
        let script = "chmod u+s /bin/busybox; cat /proc/self/status";
        exec_said(&client, "c", &["sh", "-c", script]).await;
        let status = exec_spec_said(&client, "c", exec_as("app")).await;
        assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
    });
}

/// How the kernel answers each of the probe's calls.
async fn answers(client: &Client, spec: ContainerSpec) -> BTreeMap<String, String> {
    let said = said(client, spec).await;
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Answered by the filter alone: without it, whoever asks gets something else.
const BY_THE_FILTER: [&str; 10] = [
    "add_key",
    "clone-user",
    "clone3",
    "io_uring_setup",
    "keyctl",
    "personality",
    "request_key",
    "socket-alg",
    "socket-vsock",
    "unshare-user",
];

#[test]
fn calls_that_a_container_has_no_business_with_are_refused() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        let calls = ["probe", "calls"];
        let filtered = answers(&client, running(&calls)).await;
        assert!(filtered.len() > 30, "{filtered:?}");
        for (call, answer) in &filtered {
            // Its flags are out of a filter's sight; libraries fall back to clone.
            let expected = if call == "clone3" { "ENOSYS" } else { "EPERM" };
            assert_eq!(answer, expected, "{call}");
        }
        let by_exec = exec_said(&client, "c", &calls).await;
        assert_eq!(by_exec.lines().count(), filtered.len());
        for (call, answer) in by_exec.lines().filter_map(|line| line.split_once(' ')) {
            assert_eq!(answer, filtered[call], "{call} by an exec");
        }
        let open = answers(&client, unconfined(running(&calls))).await;
        for call in BY_THE_FILTER {
            assert_ne!(open[call], filtered[call], "{call} shows nothing");
        }
    });
}
