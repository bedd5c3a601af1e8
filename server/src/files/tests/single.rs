//! Single files and paths.

use std::io::{Read, repeat};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};

use super::*;

fn to(path: &str) -> WriteFile {
    WriteFile {
        path: path.to_owned(),
        mode: None,
        uid: None,
        gid: None,
        create_parents: false,
        owner: me(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
    let place = Place::new();
    fs::write(place.inside("file"), "old").unwrap();
    fs::set_permissions(place.inside("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let stat = write(&place.root(), &to("/file"), &b"new content"[..]).unwrap();
    assert_eq!(
        (stat.size, stat.mode, stat.name.as_str()),
        (11, 0o640, "file")
    );
    assert_eq!(fs::read(place.inside("file")).unwrap(), b"new content");

    struct Cut;
    impl Read for Cut {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(FileError::Stopped.into())
        }
    }
    let cut = repeat(1).take(1 << 20).chain(Cut);
    let failed = write(&place.root(), &to("/file"), cut).unwrap_err();
    assert_eq!(failed, FileError::Stopped);
    assert_eq!(fs::read(place.inside("file")).unwrap(), b"new content");
    assert_eq!(names(&place.inside("")), ["file"], "nothing is left behind");
}

#[test]
fn a_file_has_no_name_before_it_is_whole() {
    struct Look(PathBuf, bool);
    impl Read for Look {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            self.1 = names(&self.0).is_empty();
            Ok(0)
        }
    }
    let place = Place::new();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    if openat(CWD, place.inside(""), flags, Mode::RWXU).is_err() {
        // Then it has another name, and a crash leaves it.
        return;
    }
    let mut look = Look(place.inside(""), false);
    write(&place.root(), &to("/file"), &mut look).unwrap();
    assert!(look.1, "there is nothing to leave behind");
    assert_eq!(names(&place.inside("")), ["file"]);
}

#[test]
fn a_new_file_gets_the_mode_that_is_asked_for() {
    let place = Place::new();
    write(&place.root(), &to("/plain"), &b""[..]).unwrap();
    assert_eq!(mode(&place.inside("plain")), 0o644);
    let special = WriteFile {
        mode: Some(0o4711),
        ..to("/special")
    };
    write(&place.root(), &special, &b""[..]).unwrap();
    assert_eq!(mode(&place.inside("special")), 0o4711);
}

#[test]
fn links_are_followed_inside_and_never_out() {
    let place = Place::new();
    fs::create_dir(place.inside("dir")).unwrap();
    symlink("/dir/target", place.inside("absolute")).unwrap();
    symlink("../../../dir/target", place.inside("dir/upwards")).unwrap();
    for path in ["/absolute", "/dir/upwards"] {
        write(&place.root(), &to(path), path.as_bytes()).unwrap();
        assert_eq!(
            fs::read(place.inside("dir/target")).unwrap(),
            path.as_bytes()
        );
        let (mut file, _) = open_file(&place.root(), path).unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, path);
    }
    // Inside there is no such place.
    symlink(place.outside().join("secret"), place.inside("out")).unwrap();
    symlink(place.outside(), place.inside("out-dir")).unwrap();
    for path in ["/out", "/out-dir/secret", "/out-dir/new"] {
        let missing = |error| matches!(error, FileError::NotFound { .. });
        assert!(
            missing(open_file(&place.root(), path).unwrap_err()),
            "{path}"
        );
        assert!(
            missing(write(&place.root(), &to(path), &b"x"[..]).unwrap_err()),
            "{path}"
        );
    }
    place.assert_nothing_outside_changed();
}

#[test]
fn a_circle_of_links_leads_nowhere() {
    let place = Place::new();
    symlink("b", place.inside("a")).unwrap();
    symlink("a", place.inside("b")).unwrap();
    let nowhere = write(&place.root(), &to("/a"), &b"x"[..]).unwrap_err();
    assert!(matches!(nowhere, FileError::NotFound { .. }));
}

#[test]
fn missing_directories_are_made_only_if_asked_for() {
    let place = Place::new();
    fs::create_dir(place.inside("real")).unwrap();
    symlink("/real", place.inside("link")).unwrap();
    let missing = write(&place.root(), &to("/link/a/b/file"), &b"x"[..]).unwrap_err();
    assert!(matches!(missing, FileError::NotFound { .. }));
    let made = WriteFile {
        create_parents: true,
        ..to("/link/a/b/file")
    };
    write(&place.root(), &made, &b"x"[..]).unwrap();
    assert_eq!(mode(&place.inside("real/a")), 0o755);
    assert_eq!(fs::read(place.inside("real/a/b/file")).unwrap(), b"x");
}

#[test]
fn what_is_no_file_is_not_opened() {
    let place = Place::new();
    mknodat(CWD, place.inside("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir(place.inside("dir")).unwrap();
    for (path, kind) in [
        ("/fifo", "special file"),
        ("/dir", "directory"),
        ("/", "directory"),
    ] {
        // A FIFO that was opened would wait for its writer.
        let read = open_file(&place.root(), path).unwrap_err();
        let written = write(&place.root(), &to(path), &b"x"[..]).unwrap_err();
        for refused in [read, written] {
            let FileError::Kind { want, have, .. } = refused else {
                unreachable!("{refused:?}");
            };
            assert_eq!((want, have), ("file", kind), "{path}");
        }
    }
    assert_eq!(names(&place.inside("")), ["dir", "fifo"]);
}

#[test]
fn a_path_is_described_and_its_last_link_is_not_followed() {
    let place = Place::new();
    fs::create_dir(place.inside("dir")).unwrap();
    fs::write(place.inside("dir/file"), "12345").unwrap();
    symlink("dir/file", place.inside("link")).unwrap();
    let root = place.root();
    let of = |path: &str| stat(&root, path).unwrap();
    assert_eq!(
        (of("/dir/file").kind, of("/dir/file").size),
        (PathKind::File, 5)
    );
    assert_eq!((of("/dir").kind, of("/dir").size), (PathKind::Directory, 0));
    let link = of("/link");
    assert_eq!(
        (link.kind, link.link_target.as_str()),
        (PathKind::Symlink, "dir/file")
    );
    assert_eq!(
        (of("/").name.as_str(), of("/").kind),
        ("/", PathKind::Directory)
    );
    assert!(matches!(
        stat(&root, "/missing"),
        Err(FileError::NotFound { .. })
    ));
    assert!(matches!(
        stat(&root, "/dir/file/x"),
        Err(FileError::NotFound { .. })
    ));
}

#[test]
fn magic_links_are_not_followed() {
    let root = Root::of_directory(Path::new("/")).unwrap();
    for path in [
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd",
        "/proc/self/exe",
    ] {
        assert!(
            matches!(open_file(&root, path), Err(FileError::NotFound { .. })),
            "{path}"
        );
    }
}

#[test]
fn a_process_is_found_only_in_its_group() {
    let own = std::process::id();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let group = groups.lines().next().unwrap();
    assert!(Root::of_process(own, group).is_ok());
    let other = Root::of_process(own, "0123456789abcdef0123456789abcdef");
    assert_eq!(other.unwrap_err(), FileError::ProcessEnded);
    // Larger than any pid.
    let none = Root::of_process(u32::MAX / 2, group);
    assert_eq!(none.unwrap_err(), FileError::ProcessEnded);
}
