//! The harness itself: it sees what is left, it removes it, and its proxy changes nothing.

mod registries;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use tonic::Code;

use crate::harness::containerd::Containerd;
use crate::harness::proxy::{Fault, Proxy};
use crate::harness::{World, containerd_only, image, leaks, scenario};

/// Cgroups are the host's, so another run of the tests must not mean the same.
fn id() -> String {
    format!("left-by-the-harness-test-{}", std::process::id())
}

#[test]
fn a_container_that_is_left_is_seen_everywhere_and_then_removed() {
    let mut place = None;
    containerd_only(
        "it proves what the harness sees of containerd",
        async |world| {
            place = Some(world.directory().to_owned());
            leave_a_container(world).await;
            let left = leaks::in_containerd(&world.containerd).await.join("\n");
            for kind in ["tasks: ", "containers: ", "snapshots: "] {
                assert!(left.contains(&format!("{kind}{}", id())), "{left}");
            }
            let left = leaks::on_the_host(world.directory()).join("\n");
            for kind in ["mount ", "cgroup ", "process "] {
                assert!(left.contains(kind), "no {kind}in {left}");
            }
            // Only cleaning up by force helps now; it must leave nothing for the end of the scenario.
            let directory = world.directory().to_owned();
            leaks::remove_all(&directory, &mut world.containerd);
            assert_eq!(leaks::on_the_host(&directory), Vec::<String>::new());
        },
    );
    let is_there = place.is_some_and(|place| place.exists());
    assert!(!is_there, "the directory is still there");
}

#[test]
fn a_scenario_that_leaves_a_cgroup_fails_though_its_body_does_not() {
    let left = format!("left-by-nobody-{}", std::process::id());
    let mut group = None;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        scenario(async |world| {
            world.up().await;
            leaks::note_ids(world.directory(), &BTreeSet::from([left.clone()]));
            group = Some(leave_a_cgroup(&left));
        });
    }));
    assert!(outcome.is_err(), "a cgroup was left, and nobody minded");
    assert!(!group.unwrap().exists(), "it was not removed by force");
}

/// In whichever hierarchy is there: `pids` with the first version.
fn leave_a_cgroup(id: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let pids = root.join("pids");
    let hierarchy = if pids.exists() { pids } else { root.to_owned() };
    let group = hierarchy.join("wharf").join(id);
    std::fs::create_dir_all(&group).unwrap();
    group
}

#[test]
fn a_scenario_that_leaves_a_lease_fails_though_its_body_does_not() {
    let mut is_left = false;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        containerd_only("a lease is one of containerd", async |world| {
            world.containerd.start().await;
            world.containerd.ctr(&["leases", "create"]).await;
            is_left = true;
        });
    }));
    assert_eq!(
        outcome.is_err(),
        is_left,
        "a lease was left, and nobody minded"
    );
}

#[test]
fn the_proxy_passes_everything_on_and_counts_it() {
    containerd_only(
        "it proves what the harness sees of containerd",
        async |world| {
            world.containerd.start().await;
            let through = world.directory().join("proxy.sock");
            let proxy = Proxy::start(&through, &world.containerd.socket());
            let proxied = Containerd::behind(&through);
            import(&proxied, world.directory()).await;
            let images = proxied.ctr(&["images", "list", "-q"]).await;
            assert_eq!(images, [image::REFERENCE]);
            let writes = proxy.counts()["/containerd.services.content.v1.Content/Write"];
            assert!(writes >= 3, "{writes} blobs");

            let list = "/containerd.services.images.v1.Images/List";
            let before = proxy.counts();
            proxied.ctr(&["images", "list", "-q"]).await;
            let calls = proxy.since(&before);
            assert_eq!(calls.get(list), Some(&1), "{calls:?}");
        },
    );
}

#[test]
fn the_proxy_fails_calls_as_often_as_it_is_told() {
    containerd_only(
        "it proves what the harness sees of containerd",
        async |world| {
            world.containerd.start().await;
            let through = world.directory().join("proxy.sock");
            let proxy = Proxy::start(&through, &world.containerd.socket());
            let proxied = Containerd::behind(&through);
            let list = "/containerd.services.images.v1.Images/List";

            proxy.fail_times(
                list,
                Fault::Status(Code::ResourceExhausted, "no, thanks"),
                1,
            );
            let refused = proxied.ctr_output(&["images", "list", "-q"]).await;
            assert!(
                refused.clone().unwrap_err().contains("no, thanks"),
                "{refused:?}"
            );
            assert!(proxied.ctr_output(&["images", "list", "-q"]).await.is_ok());

            proxy.fail(list, Fault::Cut);
            assert!(proxied.ctr_output(&["images", "list", "-q"]).await.is_err());
            proxy.heal();
            assert!(proxied.ctr_output(&["images", "list", "-q"]).await.is_ok());
        },
    );
}

async fn import(containerd: &Containerd, directory: &Path) {
    let archive = directory.join("busybox.tar");
    std::fs::write(&archive, image::busybox()).unwrap();
    containerd
        .ctr(&["images", "import", archive.to_str().unwrap()])
        .await;
}

async fn leave_a_container(world: &mut World) {
    world.containerd.start().await;
    import(&world.containerd, world.directory()).await;
    let run = ["run", "--detach", image::REFERENCE, &id(), "sleep", "3600"];
    world.containerd.ctr(&run).await;
    leaks::note_ids(world.directory(), &BTreeSet::from([id()]));
}
