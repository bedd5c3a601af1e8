//! Images: names come and go, content stays while something needs it.

use super::*;
use crate::model::image::Platform;
use crate::model::{Digest, Image};
use crate::store::tests::image;

const SECOND_NAME: &str = "example.org/app:2";

#[test]
fn a_tag_is_one_more_name() {
    let mut world = World::new();
    world.run(async |up| {
        let tagged = up
            .engine
            .tag_image(cause("tag"), IMAGE, SECOND_NAME)
            .await
            .unwrap();
        assert!(tagged.references.contains(IMAGE) && tagged.references.contains(SECOND_NAME));
        assert_eq!(up.engine.image(SECOND_NAME).unwrap().id, tagged.id);
        let again = up
            .engine
            .tag_image(cause("again"), IMAGE, SECOND_NAME)
            .await
            .unwrap();
        assert_eq!(again.references.len(), 2);
        assert_eq!(up.chronicle().await[1..], ["tagged by tag"]);
        assert_eq!(
            up.control.images(),
            [(SECOND_NAME.to_owned(), tagged.id.clone())]
        );
    });
    world.crash_and_boot();
    world.run(async |up| {
        assert_eq!(up.engine.image(SECOND_NAME).unwrap().references.len(), 2);
    });
}

#[test]
fn a_tag_of_nothing_or_on_anothers_name_is_refused() {
    World::new().run(async |up| {
        let refused = up
            .engine
            .tag_image(cause("tag"), "example.org/none:1", SECOND_NAME)
            .await;
        assert_refused!(refused, Error::ImageNotFound { .. });
        up.put_image(image("other"));
        let refused = up
            .engine
            .tag_image(cause("tag"), "example.org/other:1", IMAGE)
            .await;
        assert_refused!(refused, Error::ReferenceInUse { .. });
    });
}

#[test]
fn deleting_one_of_two_names_only_removes_the_name() {
    World::new().run(async |up| {
        let id = up
            .engine
            .tag_image(cause("tag"), IMAGE, SECOND_NAME)
            .await
            .unwrap()
            .id
            .clone();
        let refused = up.engine.delete_image(cause("d"), id.as_str(), false).await;
        assert_refused!(refused, Error::InvalidField { field, .. } if field == "image");
        let deleted = up
            .engine
            .delete_image(cause("delete"), IMAGE, false)
            .await
            .unwrap();
        assert_eq!(
            (deleted.untagged, deleted.deleted),
            (vec![IMAGE.to_owned()], Vec::new())
        );
        assert_refused!(up.engine.image(IMAGE), Error::ImageNotFound { .. });
        assert_eq!(up.engine.image(SECOND_NAME).unwrap().id, id);
    });
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let mut world = World::new();
    world.run(async |up| {
        let id = up.engine.image(IMAGE).unwrap().id.to_string();
        let deleted = up
            .engine
            .delete_image(cause("delete"), IMAGE, false)
            .await
            .unwrap();
        assert_eq!(
            (deleted.untagged, deleted.deleted),
            (vec![IMAGE.to_owned()], vec![id.clone()])
        );
        assert_refused!(up.engine.image(&id), Error::ImageNotFound { .. });
        assert_eq!(
            up.chronicle().await[1..],
            ["untagged by delete", "image deleted by delete"]
        );
        assert_refused!(
            up.engine.create(call("c"), request("a")).await,
            Error::ImageNotFound { .. }
        );
    });
    world.crash_and_boot();
    world.run(async |up| assert!(up.engine.images().is_empty()));
}

#[test]
fn an_image_in_use_is_not_deleted_without_force() {
    World::new().run(async |up| {
        up.create("a").await;
        assert_eq!(
            up.engine.containers_using(&up.engine.image(IMAGE).unwrap()),
            1
        );
        let refused = up.engine.delete_image(cause("d"), IMAGE, false).await;
        assert_refused!(refused, Error::ImageInUse { containers, .. } if containers == "a");
        let deleted = up
            .engine
            .delete_image(cause("d"), IMAGE, true)
            .await
            .unwrap();
        assert_eq!(deleted.deleted.len(), 1);
        up.start("a", "start").await.unwrap();
    });
}

#[test]
fn a_forced_deletion_by_id_takes_all_names() {
    World::new().run(async |up| {
        let id = up
            .engine
            .tag_image(cause("tag"), IMAGE, SECOND_NAME)
            .await
            .unwrap()
            .id
            .clone();
        let deleted = up
            .engine
            .delete_image(cause("d"), id.as_str(), true)
            .await
            .unwrap();
        assert_eq!(deleted.untagged.len(), 2);
        assert_eq!(deleted.deleted, [id.to_string()]);
        assert_eq!(up.control.images(), []);
    });
}

#[test]
fn an_image_without_a_name_is_deleted_by_its_id() {
    World::new().run(async |up| {
        up.put_image(Image {
            references: Default::default(),
            ..image("other")
        });
        let image = up.engine.image(Digest::of(b"other").as_str()).unwrap();
        assert!(image.references.is_empty());
        let deleted = up
            .engine
            .delete_image(cause("d"), image.id.as_str(), false)
            .await
            .unwrap();
        assert_eq!((deleted.untagged.len(), deleted.deleted.len()), (0, 1));
    });
}

#[test]
fn a_deletion_that_fails_midway_can_be_repeated() {
    World::new().run(async |up| {
        let id = up
            .engine
            .tag_image(cause("tag"), IMAGE, SECOND_NAME)
            .await
            .unwrap()
            .id
            .clone();
        up.control
            .inject(Operation::Untag, When::Nth(2), Fault::Fail(unknown()));
        let failed = up.engine.delete_image(cause("d"), id.as_str(), true).await;
        assert_unavailable(failed, Applied::Unknown);
        assert_eq!(up.engine.image(IMAGE).unwrap().references.len(), 2);
        up.engine
            .delete_image(cause("d"), id.as_str(), true)
            .await
            .unwrap();
        assert!(up.engine.images().is_empty());
    });
}

#[test]
fn images_do_not_change_while_the_backend_is_away() {
    World::new().run(async |up| {
        up.control.disconnect();
        up.quiet().await;
        assert_unavailable(
            up.engine.tag_image(cause("t"), IMAGE, SECOND_NAME).await,
            Applied::No,
        );
        assert_unavailable(
            up.engine.delete_image(cause("d"), IMAGE, false).await,
            Applied::No,
        );
        assert_eq!(up.engine.images().len(), 1);
    });
}

#[test]
fn a_change_of_images_goes_on_without_its_caller() {
    World::new().run(async |up| {
        let hold = up.control.hold_next(Operation::Tag);
        let engine = up.engine.clone();
        let tagging = up
            .go(async move { engine.tag_image(cause("tag"), IMAGE, SECOND_NAME).await })
            .await;
        hold.reached().await;
        tagging.abort();
        hold.release();
        up.quiet().await;
        assert!(up.engine.image(SECOND_NAME).is_ok());
        assert_eq!(up.engine.core.tasks.len(), IDLE_TASKS);
    });
}

#[test]
fn a_create_for_another_platform_is_refused() {
    World::new().run(async |up| {
        let platform = crate::model::image::Platform {
            os: "plan9".to_owned(),
            architecture: "mips".to_owned(),
            variant: String::new(),
        };
        let create = CreateContainer {
            platform: Some(platform),
            ..request("a")
        };
        let refused = up.engine.create(call("c"), create).await;
        assert_refused!(refused, Error::PlatformNotFound { .. });
    });
}

impl Up {
    fn put_image(&self, image: Image) {
        self.engine.core.images.restore(vec![image]);
    }
}

/// A `docker save` archive of an image with one file; another file makes another image.
pub(super) fn archive(up: &Up, references: &[&str], file: &str) -> ImportImage {
    archive_of(up, references, &[file])
}

/// The same with a layer for each file, lowest first.
pub(super) fn archive_of(up: &Up, references: &[&str], files: &[&str]) -> ImportImage {
    let tar = |files: &[(&str, &[u8])]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, *data).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let layers: Vec<_> = files
        .iter()
        .map(|file| tar(&[(*file, b"content")]))
        .collect();
    let names: Vec<_> = (0..layers.len()).map(|at| format!("{at}.tar")).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let platform = Platform::host();
    let config = serde_json::json!({
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "config": { "Cmd": ["/bin/app"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": references, "Layers": names,
    }])
    .to_string();
    let mut entries = vec![
        ("manifest.json", manifest.as_bytes()),
        ("config.json", config.as_bytes()),
    ];
    let layers = names.iter().zip(&layers);
    entries.extend(layers.map(|(name, layer)| (name.as_str(), layer.as_slice())));
    let image = tar(&entries);
    let path = up.engine.core.settings.state_dir.join(files.join("-"));
    std::fs::write(&path, image).unwrap();
    ImportImage {
        archive: path,
        reference: None,
        platform: None,
    }
}

pub(super) async fn import(
    up: &Up,
    request: &str,
    import: ImportImage,
) -> Result<Arc<Image>, Error> {
    let imported = up.engine.import_image(call(request), import).await?;
    Ok(imported.value[0].clone())
}

#[test]
fn an_imported_image_can_be_run() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let image = import(up, "import", archive(up, &["new:1"], "one"))
            .await
            .unwrap();
        let name = image.references.first().unwrap();
        assert_eq!(up.control.images(), [(name.clone(), image.id.clone())]);
        assert_eq!(up.chronicle().await[1..], ["imported by import"]);
        let scratch = up.engine.core.settings.state_dir.join("scratch");
        assert_eq!(std::fs::read_dir(scratch).map_or(0, Iterator::count), 0);
        image.id.clone()
    });
    world.crash_and_boot();
    world.run(async |up| {
        let mut create = and_start(request("a"));
        create.spec.image = "new:1".to_owned();
        create.spec.process.args.clear();
        let container = up.make(create).await;
        assert_eq!(container.image.id, id);
        assert_eq!(container.process.args, ["/bin/app"]);
    });
}

#[test]
fn the_same_image_again_keeps_its_age_and_gains_names() {
    World::new().run(async |up| {
        let first = import(up, "one", archive(up, &["new:1"], "file"))
            .await
            .unwrap();
        let again = import(up, "two", archive(up, &["new:2"], "file"))
            .await
            .unwrap();
        assert_eq!(
            (&again.id, again.create_time),
            (&first.id, first.create_time)
        );
        assert_eq!(again.references.len(), 2);
        assert_eq!(up.engine.images().len(), 2);
    });
}

#[test]
fn a_name_moves_to_the_image_that_is_imported_with_it() {
    let mut world = World::new();
    let (old, new) = world.run(async |up| {
        let old = import(up, "one", archive(up, &["new:1"], "old"))
            .await
            .unwrap();
        let mut create = request("a");
        create.spec.image = "new:1".to_owned();
        up.make(create).await;
        let new = import(up, "two", archive(up, &["new:1"], "new"))
            .await
            .unwrap();
        assert_ne!(old.id, new.id);
        (old.id.clone(), new.id.clone())
    });
    let check = |up: &Up| {
        assert_eq!(up.engine.image("new:1").unwrap().id, new);
        let dangling = up.engine.image(old.as_str()).unwrap();
        assert!(dangling.references.is_empty());
        assert_eq!(up.engine.containers_using(&dangling), 1);
        let names: Vec<_> = up
            .control
            .images()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert!(
            names.contains(&dangling.dangling_name()),
            "its content is kept"
        );
    };
    world.run(async |up| {
        check(up);
        let story = up.chronicle().await;
        assert_eq!(
            story[story.len() - 2..],
            ["untagged by two", "imported by two"]
        );
    });
    world.crash_and_boot();
    world.run(async |up| {
        check(up);
        up.start("a", "start").await.unwrap();
        up.delete("a", "delete", force()).await.unwrap();
        up.engine
            .delete_image(cause("d"), old.as_str(), false)
            .await
            .unwrap();
        assert_eq!(up.control.images().len(), 1, "only the new one is left");
    });
}

#[test]
fn an_import_that_is_repeated_is_made_once() {
    let mut world = World::new();
    let import = async |up: &Up, request: &str| {
        let call = keyed(request, "ImportImage", "key", 1);
        let archive = archive(up, &["new:1"], "file");
        up.engine.import_image(call, archive).await.unwrap()
    };
    let id = world.run(async |up| {
        let first = import(up, "one").await;
        assert!(!first.replayed);
        let again = import(up, "two").await;
        assert!(again.replayed);
        assert_eq!(first.value, again.value);
        first.value[0].id.clone()
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = import(up, "three").await;
        assert!(again.replayed);
        assert_eq!(again.value[0].id, id);
        assert_eq!(up.control.calls(Operation::Ingest), 1);
    });
}

#[test]
fn an_import_that_fails_changes_nothing_and_gives_its_key_back() {
    World::new().run(async |up| {
        let broken = up.engine.core.settings.state_dir.join("broken");
        std::fs::write(&broken, "no archive").unwrap();
        let broken = ImportImage {
            archive: broken,
            reference: None,
            platform: None,
        };
        let keyed = |request: &str| keyed(request, "ImportImage", "key", 1);
        let failed = up.engine.import_image(keyed("one"), broken).await;
        assert_refused!(failed, Error::Image(_));
        up.control.fail_next(Operation::Ingest, unknown());
        let archive = archive(up, &["new:1"], "file");
        let failed = up.engine.import_image(keyed("two"), archive.clone()).await;
        assert_unavailable(failed, Applied::Unknown);
        assert_eq!(up.engine.images().len(), 1);
        assert_eq!(up.chronicle().await.len(), 1);
        let archive = ImportImage { ..archive };
        assert!(
            !up.engine
                .import_image(keyed("three"), archive)
                .await
                .unwrap()
                .replayed
        );
    });
}

#[test]
fn a_name_that_was_given_and_not_recorded_is_gone_after_a_restart() {
    let mut world = World::new();
    world.run(async |up| {
        import(up, "one", archive(up, &["kept:1"], "kept"))
            .await
            .unwrap();
        let held = up.control.hold_next_answer(Operation::Ingest);
        let (engine, archive) = (up.engine.clone(), archive(up, &["new:1"], "new"));
        let import = async move { engine.import_image(call("two"), archive).await };
        drop(up.go(import).await);
        held.reached().await;
        assert_eq!(up.control.images().len(), 2);
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.quiet().await;
        let names = up.control.images().into_iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["docker.io/library/kept:1"]);
        up.engine.image("kept:1").unwrap();
    });
}

#[test]
fn an_import_that_fails_gives_names_back_to_whom_they_were_of() {
    World::new().run(async |up| {
        let old = import(up, "one", archive(up, &["new:1"], "old"))
            .await
            .unwrap();
        let name = old.references.first().unwrap().clone();
        up.control
            .inject(Operation::Ingest, When::Next, Fault::ActThenFail(unknown()));
        let failed = import(up, "two", archive(up, &["new:1", "new:2"], "new")).await;
        assert_unavailable(failed, Applied::Unknown);
        assert_eq!(up.control.images(), [(name, old.id.clone())]);
        assert_eq!(up.engine.image("new:1").unwrap().id, old.id);
    });
}

#[test]
fn the_start_of_an_id_names_its_image_unless_there_is_such_a_name() {
    World::new().run(async |up| {
        let image = import(up, "one", archive(up, &["new:1"], "one"))
            .await
            .unwrap();
        let digits = image.id.hex();
        for start in [&digits[..12], &digits[..63]] {
            assert_eq!(up.engine.image(start).unwrap().id, image.id, "{start}");
        }
        for none in [&digits[..11], &digits[1..13]] {
            assert_refused!(up.engine.image(none), Error::ImageNotFound { .. });
        }
        let other = import(up, "two", archive(up, &[&digits[..12]], "two"))
            .await
            .unwrap();
        assert_eq!(up.engine.image(&digits[..12]).unwrap().id, other.id);
    });
}
