//! The harness itself: it sees what is left, it removes it, and its proxy changes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use tonic::Code;

use crate::harness::containerd::Containerd;
use crate::harness::{Backend, World, containerd_only, image, leaks};
use crate::proxy::{Fault, Proxy};

/// Cgroups are the host's, so another run of the tests must not mean the same.
fn id() -> String {
    format!("left-by-the-harness-test-{}", std::process::id())
}

#[test]
fn a_container_that_is_left_is_seen_everywhere_and_then_removed() {
    if Backend::of_this_run() != Backend::Containerd {
        return eprintln!("it proves what the harness sees of containerd");
    }
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
    assert!(!place.unwrap().exists(), "the directory is still there");
}

#[test]
fn a_scenario_that_leaves_something_fails_though_its_body_does_not() {
    if Backend::of_this_run() != Backend::Containerd {
        return eprintln!("it proves what the harness sees of containerd");
    }
    let outcome = std::panic::catch_unwind(|| {
        containerd_only(
            "it proves what the harness sees of containerd",
            async |world| {
                world.containerd.start().await;
                world.containerd.ctr(&["leases", "create"]).await;
            },
        );
    });
    assert!(outcome.is_err(), "a lease was left, and nobody minded");
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
