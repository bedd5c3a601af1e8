//! What goes out as an archive comes back as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use rustix::fs::{
    CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat,
};

use super::*;

/// All that is to be kept of a file.
#[derive(Debug, PartialEq)]
struct Print {
    mode: u32,
    links: u64,
    modified: (i64, i64),
    content: u64,
    length: usize,
    blocks: u64,
    attribute: Option<Vec<u8>>,
}

fn hash(content: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

fn prints(top: &Path) -> BTreeMap<PathBuf, Print> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = if about.is_file() {
            fs::read(&path).unwrap()
        } else if about.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            Vec::new()
        };
        if about.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let mut value = vec![0; 100];
        let attribute = rustix::fs::lgetxattr(&path, "user.kept", value.as_mut_slice()).ok();
        let print = Print {
            mode: about.mode(),
            links: if about.is_dir() { 0 } else { about.nlink() },
            modified: (about.mtime(), about.mtime_nsec()),
            content: hash(&content),
            length: content.len(),
            blocks: if about.is_file() { about.blocks() } else { 0 },
            attribute: attribute.map(|length| value[..length].to_vec()),
        };
        found.insert(path.strip_prefix(top).unwrap().to_owned(), print);
    }
    found
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn a_tree_of_everything(top: &Path) {
    fs::create_dir_all(top.join("d/empty")).unwrap();
    fs::write(top.join("d/file"), "content").unwrap();
    fs::hard_link(top.join("d/file"), top.join("d/second name")).unwrap();
    fs::hard_link(top.join("d/file"), top.join("third")).unwrap();
    symlink("/anywhere/at all", top.join("absolute")).unwrap();
    symlink("d/file", top.join("relative")).unwrap();
    symlink("x".repeat(300), top.join("long")).unwrap();
    fs::write(top.join("n".repeat(200)), "long name").unwrap();
    fs::write(top.join("grün"), "unicode").unwrap();
    fs::write(top.join("setuid"), "#!").unwrap();
    fs::set_permissions(top.join("setuid"), fs::Permissions::from_mode(0o4751)).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"middle", 20 << 20).unwrap();
    let (fifo, mode) = (top.join("fifo"), Mode::RUSR | Mode::WUSR);
    mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(top.join("d/socket")).unwrap());
    let kept = setxattr(
        top.join("third"),
        "user.kept",
        b"a\0=\n",
        XattrFlags::empty(),
    );
    assert!(matches!(kept, Ok(()) | Err(rustix::io::Errno::NOTSUP)));
    for (path, seconds, nanoseconds) in [
        ("third", 1_600_000_000, 123_456_789),
        ("grün", -5, 250_000_000),
        ("absolute", 1_500_000_000, 1),
        ("fifo", 1, 0),
        ("d/empty", 1_400_000_000, 999_999_999),
        ("d", 1_400_000_001, 5),
        ("", 1_300_000_000, 7),
    ] {
        set_time(&top.join(path), seconds, nanoseconds);
    }
}

#[tokio::test]
async fn a_tree_comes_back_exactly() {
    let place = Place::new();
    fs::create_dir(place.inside("tree")).unwrap();
    a_tree_of_everything(&place.inside("tree"));
    let mut before = prints(&place.inside("tree"));
    assert!(
        before.remove(Path::new("d/socket")).is_some(),
        "sockets mean nothing elsewhere"
    );
    fs::create_dir(place.inside("copy")).unwrap();
    let plain = packed(place.root(), "/tree").await.unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for archive in [
        &plain,
        &gzip.finish().unwrap(),
        &zstd::encode_all(&plain[..], 1).unwrap(),
    ] {
        // The second and third time over what is there.
        let done = unpacked(place.root(), into("/copy"), archive)
            .await
            .unwrap();
        assert_eq!(done.entries, before.len() as u64);
        assert_eq!(prints(&place.inside("copy/tree")), before);
    }
}

#[tokio::test]
async fn the_root_itself_is_called_a_dot() {
    let place = Place::new();
    fs::write(place.inside("file"), "x").unwrap();
    let archive = packed(place.root(), "/").await.unwrap();
    let mut tar = tar::Archive::new(&archive[..]);
    let names: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .collect();
    assert_eq!(names, [&b"./"[..], b"./file"]);
}

#[tokio::test]
async fn what_the_kernel_makes_up_is_not_gone_into() {
    let root = Root::of_directory(Path::new("/")).unwrap();
    let archive = packed(root, "/proc").await.unwrap();
    let mut tar = tar::Archive::new(&archive[..]);
    assert_eq!(tar.entries().unwrap().count(), 1);
}

#[tokio::test]
async fn too_many_directories_within_each_other_are_refused() {
    let place = Place::new();
    let deep = place.inside(&"d/".repeat(300));
    fs::create_dir_all(deep).unwrap();
    let refused = packed(place.root(), "/d").await.unwrap_err();
    assert!(matches!(refused, FileError::TooDeep { .. }));
}
