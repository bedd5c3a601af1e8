//! What mounts cover while a container runs.

use std::os::unix::fs::symlink;

use super::*;

/// Something is mounted on `/data`, which is there, on `/later/on`, of which nothing is there yet, and by a
/// link on `/real/run/socket`.
fn covered(place: &Place) -> Root {
    place
        .root()
        .covered(&["/data", "/later/on", "/run/socket/"])
        .unwrap()
}

fn place() -> Place {
    let place = Place::new();
    fs::create_dir_all(place.inside("data/below")).unwrap();
    fs::create_dir_all(place.inside("real/run")).unwrap();
    fs::create_dir(place.inside("database")).unwrap();
    fs::write(place.inside("data/file"), "x").unwrap();
    fs::write(place.inside("database/file"), "x").unwrap();
    symlink("real/run", place.inside("run")).unwrap();
    symlink("/data", place.inside("link")).unwrap();
    symlink("/data/file", place.inside("file-link")).unwrap();
    symlink("/data/new", place.inside("new-link")).unwrap();
    place
}

fn is_covered<T: std::fmt::Debug>(result: Result<T, FileError>) -> bool {
    matches!(result, Err(FileError::Covered { .. }))
}

fn to(path: &str) -> WriteFile {
    WriteFile {
        path: path.to_owned(),
        mode: None,
        uid: None,
        gid: None,
        create_parents: true,
        owner: me(),
    }
}

#[test]
fn it_is_refused_by_name_and_where_links_lead() {
    let place = place();
    let root = covered(&place);
    for path in [
        "/data",
        "/data/file",
        "/data/missing",
        "/link/file",
        "/file-link",
        "/later/on/and/on",
        "/run/socket",
        "/real/run/socket",
    ] {
        assert!(is_covered(open_file(&root, path)), "{path}");
        assert!(is_covered(write(&root, &to(path), &b"new"[..])), "{path}");
    }
    for path in ["/new-link", "/link/made/file", "/link/new"] {
        assert!(is_covered(write(&root, &to(path), &b"new"[..])), "{path}");
    }
    assert_eq!(names(&place.inside("data")), ["below", "file"]);
    assert_eq!(fs::read(place.inside("data/file")).unwrap(), b"x");
    assert!(!place.inside("later").exists());
    assert!(names(&place.inside("real/run")).is_empty());

    for path in ["/database/file", "/later/off", "/real/run/other", "/datum"] {
        write(&root, &to(path), &b"new"[..]).unwrap();
        open_file(&root, path).unwrap();
    }
    // The link is not covered, nor is what is above.
    assert!(stat(&root, "/link").is_ok());
    assert!(stat(&root, "/").is_ok());
    assert!(is_covered(open_any(&root, "/link", LastLink::Followed)));
    // Without mounts, nothing is.
    write(&place.root(), &to("/link/new"), &b"new"[..]).unwrap();
}

#[tokio::test]
async fn no_entry_of_an_archive_goes_there() {
    let place = place();
    for (path, name) in [
        ("/", "data/x"),
        ("/", "./data/below/x"),
        ("/", "later/on/x"),
        ("/", "real/run/socket"),
        ("/run", "socket"),
    ] {
        let archive = Archive::default().file("before", "x").file(name, "x");
        let refused = unpacked(covered(&place), into(path), &archive.end()).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused.error, FileError::Covered { .. }), "{name}");
        assert_eq!(refused.entries, 1, "{name}");
    }
    assert_eq!(names(&place.inside("data")), ["below", "file"]);
    assert!(names(&place.inside("data/below")).is_empty());
    assert!(!place.inside("later").exists());
    let beside = Archive::default().file("database/x", "x").end();
    unpacked(covered(&place), into("/"), &beside).await.unwrap();
    let refused = unpacked(covered(&place), into("/link"), &beside).await;
    assert!(is_covered(refused.map_err(|refused| refused.error)));
}
