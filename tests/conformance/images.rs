//! Images go out and come back, and go for good; what they declare is honoured, or said not to be.

mod bombs;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use wharf_api::ErrorReason;
use wharf_api::v1::{self, event::Type};

use crate::harness::image::{self, Recipe, Tar};
use crate::harness::{Client, scenario, spec};

const OTHER: &str = "docker.io/library/other:v2";

/// Busybox, and one more file on top.
fn other() -> Recipe {
    let mut tar = Tar::new();
    tar.file("etc/other", 0o644, &vec![b'x'; 3 << 20]);
    let mut recipe = Recipe::busybox(OTHER);
    recipe.layers.push(tar.finish());
    recipe
}

/// What a tool wrote; it must have succeeded.
fn tool(directory: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn image_of(client: &Client, key: &str) -> v1::Image {
    let request = v1::GetImageRequest {
        image: key.to_owned(),
    };
    client.get_image(request).await.unwrap().image.unwrap()
}

async fn forget(client: &Client, key: &str) {
    let request = v1::DeleteImageRequest {
        image: key.to_owned(),
        force: true,
        ..Default::default()
    };
    client.delete_image(request).await.unwrap();
}

#[test]
fn what_is_exported_comes_back_the_same_and_runs() {
    scenario(async |world| {
        let client = world.up().await;
        client.import(other().oci_layout()).await.unwrap();
        let names = [image::REFERENCE, OTHER];
        let mut before = Vec::new();
        for name in names {
            before.push(image_of(&client, name).await);
        }
        let archive = client.export(&names).await.unwrap();
        assert_eq!(
            client.export(&[OTHER, image::REFERENCE]).await.unwrap(),
            archive
        );
        for name in names {
            forget(&client, name).await;
        }
        assert_eq!(client.import(archive).await.unwrap().len(), 2);
        for (name, before) in names.iter().zip(before) {
            let after = image_of(&client, name).await;
            assert_eq!(
                (after.id, after.target, after.references),
                (before.id, before.target, before.references)
            );
        }
        let mut on_other = spec::running(&["stat", "-c", "%s", "/etc/other"]);
        on_other.image = OTHER.to_owned();
        client.run_spec("back", on_other).await.unwrap();
        assert_eq!(client.exit_of("back", 1).await.unwrap().code, 0);
    });
}

#[test]
fn other_tools_read_what_is_exported() {
    scenario(async |world| {
        let client = world.up().await;
        client.import(other().oci_layout()).await.unwrap();
        let target = image_of(&client, OTHER).await.target.unwrap();
        let archive = client.export(&[OTHER, image::REFERENCE]).await.unwrap();
        let directory = world.directory();
        fs::write(directory.join("images.tar"), archive).unwrap();

        let inspected = [
            "inspect",
            "--format",
            "{{.Digest}}",
            "oci-archive:images.tar:v2",
        ];
        let digest = tool(directory, "skopeo", &inspected);
        assert_eq!(digest.trim(), target.digest);
        // As docker reads it: every blob by its name in manifest.json.
        let from = format!("docker-archive:images.tar:{OTHER}");
        tool(directory, "skopeo", &["copy", "-q", &from, "dir:copied"]);

        fs::create_dir(directory.join("layout")).unwrap();
        tool(directory, "tar", &["-xf", "images.tar", "-C", "layout"]);
        let tags = tool(directory, "umoci", &["list", "--layout", "layout"]);
        assert_eq!(tags.lines().collect::<Vec<_>>(), ["test", "v2"]);
        tool(
            directory,
            "umoci",
            &["unpack", "--image", "layout:v2", "bundle"],
        );
        let other = fs::metadata(directory.join("bundle/rootfs/etc/other")).unwrap();
        assert_eq!(other.len(), 3 << 20);
    });
}

#[test]
fn an_export_of_what_is_not_there_or_for_another_platform_is_refused() {
    scenario(async |world| {
        let client = world.up().await;
        let refused = client.export(&["nothing:here"]).await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::ImageNotFound);
        let request = v1::ExportImageRequest {
            images: vec![image::REFERENCE.to_owned()],
            platform: Some(v1::Platform {
                os: "plan9".to_owned(),
                ..Default::default()
            }),
        };
        let refused = client.images().export_image(client.request(request)).await;
        let refused = crate::harness::client::answer(refused).map(drop);
        assert_eq!(refused.unwrap_err().reason(), ErrorReason::PlatformNotFound);
    });
}

#[test]
fn a_prune_takes_what_nothing_uses_and_says_what_that_frees() {
    scenario(async |world| {
        let client = world.up().await;
        client.import(other().oci_layout()).await.unwrap();
        client.create("user", &["true"]).await.unwrap();
        let id = image_of(&client, OTHER).await.id;

        let dangling = client.prune_images(v1::PruneImagesRequest::default()).await;
        assert_eq!(dangling.unwrap(), [], "both have names");
        let usage = v1::GetDiskUsageRequest {};
        let before = client.get_disk_usage(usage).await.unwrap().images.unwrap();
        let request = |dry_run| v1::PruneImagesRequest {
            filter: Some(v1::ImageFilter {
                dangling: Some(false),
                ..Default::default()
            }),
            dry_run,
        };
        let planned = client.prune_images(request(true)).await.unwrap();
        assert_eq!(planned.len(), 1);
        assert_eq!(
            (&planned[0].image_id, &planned[0].references[..]),
            (&id, &[OTHER.to_owned()][..])
        );
        // Its own layer, packed and unpacked, and not busybox.
        let freed = planned[0].reclaimed_bytes;
        assert!((6 << 20..7 << 20).contains(&freed), "{freed}");
        assert_eq!(before.reclaimable_bytes, freed);
        assert_eq!(client.prune_images(request(false)).await.unwrap(), planned);
        let after = client.get_disk_usage(usage).await.unwrap().images.unwrap();
        assert_eq!((after.count, after.reclaimable_bytes), (1, 0));
        assert_eq!(after.size_bytes, before.size_bytes - freed);
        assert_eq!(client.prune_images(request(false)).await.unwrap(), []);

        let events = client.every_event().await;
        let last: Vec<_> = events.iter().rev().take(2).map(v1::Event::r#type).collect();
        assert_eq!(last, [Type::ImageDeleted, Type::ImageUntagged]);
        client.start("user").await.unwrap();
        assert_eq!(client.exit_of("user", 1).await.unwrap().code, 0);
    });
}

#[test]
fn disk_use_is_told_by_kind() {
    scenario(async |world| {
        let client = world.up().await;
        let write = [
            "sh",
            "-c",
            "dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; yes | head -c 300000",
        ];
        client.run("over", &write).await.unwrap();
        assert_eq!(client.exit_of("over", 1).await.unwrap().code, 0);
        client.create("unborn", &["true"]).await.unwrap();
        let usage = client
            .get_disk_usage(v1::GetDiskUsageRequest {})
            .await
            .unwrap();
        let containers = usage.containers.unwrap();
        assert_eq!(containers.count, 2);
        assert!(containers.size_bytes >= containers.reclaimable_bytes);
        let written = 4 << 20..5 << 20;
        assert!(
            written.contains(&containers.reclaimable_bytes),
            "{containers:?}"
        );
        let logs = usage.logs.unwrap();
        assert_eq!(logs.count, 2);
        assert!(logs.reclaimable_bytes >= 300_000, "{logs:?}");
        let state = usage.state.unwrap();
        assert!(state.count > 0 && state.size_bytes > 0 && state.reclaimable_bytes == 0);
    });
}

#[test]
fn a_program_of_another_platform_is_refused_as_such_by_starts_and_execs() {
    const FOREIGN: &str = "/bin/other-platform";
    scenario(async |world| {
        let client = world.up().await;
        let platform = format!("linux/{}", image::architecture());
        let refused = client.run("foreign", &[FOREIGN]).await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::ExecutableFormat);
        assert_eq!(refused.metadata["path"], FOREIGN);
        assert!(refused.metadata["platform"].starts_with(&platform));

        client.create("later", &["other-platform"]).await.unwrap();
        let refused = client.start("later").await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::ExecutableFormat);

        client.run("host", &["sleep", "3600"]).await.unwrap();
        let request = v1::ExecSyncRequest {
            container: "host".to_owned(),
            spec: Some(v1::ExecSpec {
                process: Some(v1::ProcessSpec {
                    args: vec![FOREIGN.to_owned()],
                    ..Default::default()
                }),
                timeout: Some(spec::duration(std::time::Duration::from_secs(60))),
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = client.exec_sync(request).await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::ExecutableFormat);
        assert_eq!(refused.metadata["path"], FOREIGN);
    });
}

#[test]
fn what_an_image_declares_and_nobody_does_is_said_when_a_container_is_made() {
    scenario(async |world| {
        let client = world.up().await;
        let mut recipe = Recipe::busybox("declares:1");
        recipe.process["Volumes"] = json!({"/data": {}, "/mounted/below": {}});
        recipe.process["Healthcheck"] = json!({"Test": ["CMD", "true"]});
        client.import(recipe.oci_layout()).await.unwrap();
        let mut declared = spec::running(&["true"]);
        declared.image = "declares:1".to_owned();
        declared.mounts.push(v1::Mount {
            target: "/mounted".to_owned(),
            source: Some(v1::mount::Source::Tmpfs(v1::TmpfsMount::default())),
            ..Default::default()
        });
        for validate_only in [true, false] {
            let request = v1::CreateContainerRequest {
                name: "declared".to_owned(),
                spec: Some(declared.clone()),
                validate_only,
                ..Default::default()
            };
            let created = client.create_container(request).await.unwrap();
            let told: Vec<_> = created.warnings.iter().map(|w| w.reason.as_str()).collect();
            assert_eq!(told, ["IMAGE_HEALTH_CHECK_NOT_RUN", "IMAGE_VOLUME_IN_ROOT"]);
            assert!(created.warnings[1].message.contains("/data"));
        }
        let request = v1::CreateContainerRequest {
            name: "plain".to_owned(),
            spec: Some(spec::running(&["true"])),
            ..Default::default()
        };
        assert_eq!(client.create_container(request).await.unwrap().warnings, []);
    });
}
