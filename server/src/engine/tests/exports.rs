//! Images leave as archives that are whole or end with an error.

use super::images::{archive, import};
use super::*;
use crate::model::image::Platform;
use crate::model::{Digest, Image};

/// An export as a whole, with the sizes of its messages checked on the way.
async fn exported(up: &Up, images: &[&str]) -> Result<Vec<u8>, Error> {
    let keys: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
    let mut export = up.engine.export_images(&keys, None).await?;
    let mut archive = Vec::new();
    while let Some(bytes) = export.next().await? {
        assert!((1..=limits::MAX_ARCHIVE_CHUNK).contains(&bytes.len()));
        archive.extend_from_slice(&bytes);
    }
    Ok(archive)
}

/// The names of an archive's files, and their contents.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(archive);
    let files = tar.entries().unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.header().entry_type().is_file());
    files
        .map(|mut file| {
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut data).unwrap();
            (file.path().unwrap().display().to_string(), data)
        })
        .collect()
}

#[test]
fn what_is_exported_is_imported_as_the_same_image_under_the_same_names() {
    World::new().run(async |up| {
        let one = import(up, "one", archive(up, &["new:1", "new:2"], "one"));
        let one = one.await.unwrap();
        let two = import(up, "two", archive(up, &["other:1"], "two"));
        let two = two.await.unwrap();
        let keys = ["new:1", "other:1", "new:2", "new:1"];
        let archive = exported(up, &keys).await.unwrap();
        for image in [&one, &two] {
            let force = up.engine.delete_image(cause("d"), image.id.as_str(), true);
            force.await.unwrap();
        }
        let path = up.engine.core.settings.state_dir.join("exported");
        std::fs::write(&path, archive).unwrap();
        let import = ImportImage {
            archive: path,
            reference: None,
            platform: None,
        };
        let back = up.engine.import_image(call("back"), import).await.unwrap();
        let key = |image: &Arc<Image>| {
            let image = Image::clone(image);
            (image.id, image.target, image.references, image.chain_id)
        };
        let mut expected = [key(&one), key(&two)];
        let mut back: Vec<_> = back.value.iter().map(key).collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        back.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(back, expected);
    });
}

#[test]
fn the_same_images_give_the_same_archive_with_each_blob_once() {
    World::new().run(async |up| {
        let one = import(up, "one", archive(up, &["new:1"], "same"));
        let one = one.await.unwrap();
        let again = import(up, "two", archive(up, &["new:2"], "other"));
        again.await.unwrap();
        let first = exported(up, &["new:1", "new:2"]).await.unwrap();
        assert_eq!(exported(up, &["new:2", "new:1"]).await.unwrap(), first);
        let files = files(&first);
        let names: std::collections::BTreeSet<_> = files.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), files.len(), "each file once");
        // Two manifests, two configs, two layers, and three documents.
        assert_eq!(files.len(), 9);
        for (name, data) in &files {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(Digest::of(data).hex(), hex);
            }
        }
        let nameless = exported(up, &[one.id.as_str()]).await.unwrap();
        let by_digest = exported(up, &[one.target.digest.as_str()]).await.unwrap();
        assert_eq!(nameless, by_digest);
        assert!(nameless != exported(up, &["new:1"]).await.unwrap());
    });
}

#[test]
fn an_export_of_an_image_that_goes_meanwhile_ends_with_an_error() {
    World::new().run(async |up| {
        let image = import(up, "one", archive(up, &["new:1"], "one"));
        let image = image.await.unwrap();
        let keys = ["new:1".to_owned()];
        let mut export = up.engine.export_images(&keys, None).await.unwrap();
        assert!(export.next().await.unwrap().is_some());
        let deleted = up.engine.delete_image(cause("d"), "new:1", false);
        deleted.await.unwrap();
        let ended = loop {
            match export.next().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert_refused!(ended, Error::Backend(BackendError::BlobMissing { .. }));
        assert_refused!(
            up.engine.export_images(&[image.id.to_string()], None).await,
            Error::ImageNotFound { .. }
        );
    });
}

#[test]
fn an_export_for_another_platform_is_refused() {
    World::new().run(async |up| {
        let platform = Platform {
            os: "plan9".to_owned(),
            architecture: "mips".to_owned(),
            variant: String::new(),
        };
        let keys = [IMAGE.to_owned()];
        let refused = up.engine.export_images(&keys, Some(&platform)).await;
        assert_refused!(refused, Error::PlatformNotFound { .. });
    });
}
