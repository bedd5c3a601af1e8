//! What a running container sees is what is read and written: its mounts, read-only and full ones too.

use std::fs;
use std::time::Duration;

use wharf_api::ErrorReason as R;
use wharf_api::v1::{self, ContainerSpec, Mount, TmpfsMount, mount::Source};

use super::{Archive, BUSY, into};
use crate::harness::{scenario, spec, until};

fn tmpfs(target: &str, size_bytes: i64) -> Mount {
    Mount {
        target: target.to_owned(),
        source: Some(Source::Tmpfs(TmpfsMount {
            size_bytes,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn bind(target: &str, path: &std::path::Path) -> Mount {
    Mount {
        target: target.to_owned(),
        source: Some(Source::Bind(v1::BindMount {
            path: path.display().to_string(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn create(name: &str, spec: ContainerSpec) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        name: name.to_owned(),
        spec: Some(spec),
        start: true,
        ..Default::default()
    }
}

#[test]
fn mounts_are_seen_while_the_container_runs_and_only_then() {
    /// Passes on what is put into memory.
    const PASS: &str = "while [ ! -f /memory/go ]; do sleep 0.05; done; cat /memory/go > /host/out; \
        sleep 3600";
    scenario(async |world| {
        let client = world.up().await;
        let host = world.directory().join("host");
        fs::create_dir(&host).unwrap();
        let spec = ContainerSpec {
            mounts: vec![tmpfs("/memory", 1 << 20), bind("/host", &host)],
            ..spec::running(&["sh", "-c", PASS])
        };
        client.create_with(create("c", spec)).await.unwrap();
        client.put("c", "/memory/go", "passed on").await.unwrap();
        until(
            "the process has seen it",
            Duration::from_secs(20),
            async || {
                (fs::read_to_string(host.join("out")).is_ok_and(|out| out == "passed on"))
                    .then_some(())
                    .ok_or_else(|| "it has not".to_owned())
            },
        )
        .await;
        let archive = Archive::default().file("by-archive", "x").end();
        client
            .write_archive(into("c", "/host"), archive)
            .await
            .unwrap();
        assert_eq!(fs::read(host.join("by-archive")).unwrap(), b"x");
        assert_eq!(
            client.read_file("c", "/host/out").await.unwrap(),
            b"passed on"
        );

        // A disk that is full, and nothing left of what did not fit.
        let start = v1::WriteFileStart {
            container: "c".to_owned(),
            path: "/memory/large".to_owned(),
            ..Default::default()
        };
        let full = client
            .write_file(start, vec![b'x'; 4 << 20])
            .await
            .unwrap_err();
        assert!(full.is(R::NoSpace), "{full}");
        let large =
            Archive::default().add("large", tar::EntryType::Regular, "", &vec![b'x'; 4 << 20]);
        let full = client
            .write_archive(into("c", "/memory"), large.end())
            .await
            .unwrap_err();
        assert!(full.is(R::NoSpace), "{full}");
        let left = client.read_archive("c", "/memory").await.unwrap();
        let mut tar = tar::Archive::new(&left[..]);
        assert_eq!(
            tar.entries().unwrap().count(),
            2,
            "the directory and the first file"
        );

        client.delete_by_force("c").await.unwrap();
        let spec = ContainerSpec {
            mounts: vec![tmpfs("/memory", 1 << 20), tmpfs("/tmp", 1 << 20)],
            ..spec::running(BUSY)
        };
        let request = v1::CreateContainerRequest {
            start: false,
            ..create("idle", spec)
        };
        client.create_with(request).await.unwrap();
        client.put("idle", "/memory-not", "x").await.unwrap();
        let link = Archive::default().add("link", tar::EntryType::Symlink, "/tmp", b"");
        client
            .write_archive(into("idle", "/"), link.end())
            .await
            .unwrap();
        for path in ["/memory", "/memory/file", "/tmp/file", "/link/file"] {
            let refused = client.put("idle", path, "x").await.unwrap_err();
            assert!(refused.is(R::ContainerNotRunning), "{refused}");
        }
        let below = Archive::default()
            .file("etc/new", "x")
            .file("tmp/file", "x");
        let refused = client.write_archive(into("idle", "/"), below.end()).await;
        let refused = refused.unwrap_err();
        assert!(refused.is(R::ContainerNotRunning), "{refused}");
        assert_eq!(refused.metadata["entries"], "1");
    });
}

#[test]
fn a_read_only_root_is_not_written_to_running_or_not() {
    scenario(async |world| {
        let client = world.up().await;
        let spec = ContainerSpec {
            read_only_root: true,
            mounts: vec![tmpfs("/memory", 1 << 20)],
            ..spec::running(&["sleep", "3600"])
        };
        client.create_with(create("c", spec.clone())).await.unwrap();
        let request = v1::CreateContainerRequest {
            start: false,
            ..create("idle", spec)
        };
        client.create_with(request).await.unwrap();
        for container in ["c", "idle"] {
            let refused = client.put(container, "/etc/new", "x").await.unwrap_err();
            assert!(refused.is(R::RootReadOnly), "{refused}");
            let archive = Archive::default().file("new", "x").end();
            let refused = client.write_archive(into(container, "/etc"), archive).await;
            let refused = refused.unwrap_err();
            assert!(refused.is(R::RootReadOnly), "{refused}");
            client.read_file(container, "/etc/passwd").await.unwrap();
        }
        client.put("c", "/memory/file", "x").await.unwrap();
    });
}
