//! Archives that want what they must not get.

use std::time::Duration;

use tar::EntryType as E;
use tokio::time::timeout;

use super::*;

fn problem(error: Partial) -> String {
    match error.error {
        FileError::Archive { problem } => problem,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn what_leads_out_is_refused_with_nothing_written() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.outside(), place.inside("way-out")).unwrap();
    fs::write(place.inside("kept"), "kept").unwrap();
    let outside = place.outside();
    let absolute = outside.join("new").display().to_string();
    let secret = outside.join("secret").display().to_string();
    for (archive, expected) in [
        (Archive::default().file(&absolute, "x"), "absolute name"),
        (
            Archive::default().file("../outside/new", "x"),
            "leads upwards",
        ),
        (
            Archive::default().file("a/../../outside/new", "x"),
            "leads upwards",
        ),
        (
            Archive::default().file("way-out/new", "x"),
            "runs through a link",
        ),
        (
            Archive::default().add("way-out/new", E::Directory, "", b""),
            "runs through a link",
        ),
        (
            Archive::default().add("way-out/new", E::Symlink, "x", b""),
            "runs through a link",
        ),
        (
            Archive::default().add("way-out/new", E::Fifo, "", b""),
            "runs through a link",
        ),
        (
            Archive::default().add("stolen", E::Link, &secret, b""),
            "absolute name",
        ),
        (
            Archive::default().add("stolen", E::Link, "../outside/secret", b""),
            "leads upwards",
        ),
        (
            Archive::default().add("stolen", E::Link, "way-out/secret", b""),
            "runs through a link",
        ),
        (
            Archive::default().add("stolen", E::Link, "missing", b""),
            "is not there",
        ),
        (
            Archive::default().add("kept", E::Link, "missing", b""),
            "is not there",
        ),
        (
            Archive::default().add("disk", E::Block, "", b""),
            "is a device",
        ),
        (
            Archive::default().add("null", E::Char, "", b""),
            "is a device",
        ),
        (
            Archive::default().add("kept", E::Char, "", b""),
            "is a device",
        ),
        (
            Archive::default().add("", E::Regular, "", b"x"),
            "its top is no directory",
        ),
    ] {
        let refused = unpacked(place.root(), into("/"), &archive.end())
            .await
            .unwrap_err();
        assert_eq!(refused.entries, 0);
        let problem = problem(refused);
        assert!(problem.contains(expected), "{problem}");
        place.assert_nothing_outside_changed();
        assert_eq!(names(&place.inside("")), ["kept", "way-out"]);
    }
    assert_eq!(fs::read(place.inside("kept")).unwrap(), b"kept");
}

#[tokio::test]
async fn a_link_of_the_archive_itself_is_not_written_through() {
    let place = Place::new();
    let archive = Archive::default()
        .add("a", E::Symlink, &place.outside().display().to_string(), b"")
        .file("a/new", "x");
    let refused = unpacked(place.root(), into("/"), &archive.end())
        .await
        .unwrap_err();
    assert_eq!(refused.entries, 1, "the link itself is harmless");
    assert!(problem(refused).contains("runs through a link"));
    place.assert_nothing_outside_changed();
}

#[tokio::test]
async fn a_file_takes_a_links_place_instead_of_being_written_through_it() {
    let place = Place::new();
    let secret = place.outside().join("secret");
    std::os::unix::fs::symlink(&secret, place.inside("file")).unwrap();
    unpacked(
        place.root(),
        into("/"),
        &Archive::default().file("file", "new").end(),
    )
    .await
    .unwrap();
    assert_eq!(fs::read_link(place.inside("file")).ok(), None);
    assert_eq!(fs::read(place.inside("file")).unwrap(), b"new");
    place.assert_nothing_outside_changed();
}

#[tokio::test]
async fn what_is_claimed_and_does_not_come_leaves_no_file() {
    let place = Place::new();
    let ten_gigabytes = Archive::default()
        .file("first", "x")
        .claim("zeros", 10 << 30);
    let refused = unpacked(place.root(), into("/"), &ten_gigabytes.end())
        .await
        .unwrap_err();
    assert_eq!(refused.entries, 1);
    assert_eq!(problem(refused), "it ends too early");
    assert_eq!(names(&place.inside("")), ["first"]);
}

#[tokio::test]
async fn damage_is_told_as_such() {
    let place = Place::new();
    let whole = Archive::default().file("file", "content").end();
    let mut broken = whole.clone();
    broken[0] ^= 1;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let mut checksum = gzip.finish().unwrap();
    let last = checksum.len() - 6;
    checksum[last] ^= 1;
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    for damaged in [
        &b"not a tar"[..],
        &broken,
        &checksum,
        &zstd[..zstd.len() - 5],
        &whole[..515],
    ] {
        let refused = unpacked(place.root(), into("/"), damaged)
            .await
            .unwrap_err();
        assert!(
            matches!(refused.error, FileError::Archive { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn zeros_that_stand_for_gigabytes_stop_with_their_caller() {
    let place = Place::new();
    // 64 TiB of zeros, as the size says; the stream brings as many as are asked for.
    let mut bomb = Archive::default().claim("zeros", 1 << 46).bytes;
    bomb.resize(1 << 20, 0);
    let frame = zstd::encode_all(&bomb[..], 1).unwrap();
    let zeros = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    let (pieces, upload) = inlet();
    let stop = CancellationToken::new();
    let reader = Inlet::new(upload, patience(&stop));
    let (root, token) = (place.root(), stop.clone());
    let work = spawn_blocking(move || unpack(&root, &into("/"), reader, &token));
    pieces.send(Piece::Data(frame.into())).await.unwrap();
    for _ in 0..20 {
        pieces
            .send(Piece::Data(zeros.clone().into()))
            .await
            .unwrap();
    }
    stop.cancel();
    let stopped = timeout(Duration::from_secs(20), work)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stopped.unwrap_err().error, FileError::Stopped);
    assert!(names(&place.inside("")).is_empty());
}

#[tokio::test]
async fn an_upload_without_its_end_leaves_no_half_file() {
    let place = Place::new();
    let (pieces, upload) = inlet();
    let stop = CancellationToken::new();
    let reader = Inlet::new(upload, patience(&stop));
    let root = place.root();
    let work = spawn_blocking(move || unpack(&root, &into("/"), reader, &stop));
    let archive = Archive::default()
        .file("first", "x")
        .claim("second", 1_000)
        .bytes;
    pieces.send(Piece::Data(archive.into())).await.unwrap();
    drop(pieces);
    let cut = work.await.unwrap().unwrap_err();
    assert_eq!((cut.entries, cut.error), (1, FileError::Stopped));
    assert_eq!(names(&place.inside("")), ["first"]);
}

#[tokio::test]
async fn a_kind_changes_only_if_it_may() {
    let place = Place::new();
    fs::create_dir_all(place.inside("directory/below/deep")).unwrap();
    fs::write(place.inside("directory/below/file"), "x").unwrap();
    std::os::unix::fs::symlink(place.outside(), place.inside("directory/link")).unwrap();
    fs::write(place.inside("file"), "x").unwrap();
    let change = into("/");
    let to_file = Archive::default().file("directory", "now a file").end();
    let to_directory = Archive::default().add("file", E::Directory, "", b"").end();
    for (archive, want, have) in [
        (&to_file, "file", "directory"),
        (&to_directory, "directory", "file"),
    ] {
        let refused = unpacked(place.root(), change.clone(), archive)
            .await
            .unwrap_err();
        let FileError::Kind {
            want: w, have: h, ..
        } = refused.error
        else {
            unreachable!("{refused:?}");
        };
        assert_eq!((w, h), (want, have));
    }
    let change = Unpack {
        allow_kind_change: true,
        ..change
    };
    for archive in [&to_file, &to_directory] {
        unpacked(place.root(), change.clone(), archive)
            .await
            .unwrap();
    }
    assert_eq!(fs::read(place.inside("directory")).unwrap(), b"now a file");
    assert!(place.inside("file").is_dir());
    place.assert_nothing_outside_changed();
}
