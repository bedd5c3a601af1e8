//! A tree with everything in it, and what is to be kept of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, setxattr, utimensat,
};
use sha2::{Digest as _, Sha256};

/// All that is to be kept of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Print {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    device: u64,
    /// The first of the names that a file has here.
    first_name: PathBuf,
    size: u64,
    blocks: u64,
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The prints of a tree, by path.
pub fn prints(top: &Path) -> BTreeMap<PathBuf, Print> {
    let mut paths = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        }
        paths.insert(path, about);
    }
    let mut names = HashMap::new();
    let below = |path: &Path| path.strip_prefix(top).unwrap().to_owned();
    let print = |(path, about): (PathBuf, fs::Metadata)| {
        let inode = (about.dev(), about.ino());
        let name = names.entry(inode).or_insert_with(|| below(&path)).clone();
        (below(&path), print(&path, &about, name))
    };
    paths.into_iter().map(print).collect()
}

fn print(path: &Path, about: &fs::Metadata, first_name: PathBuf) -> Print {
    let content = if about.is_file() {
        Sha256::digest(fs::read(path).unwrap()).to_vec()
    } else if about.is_symlink() {
        fs::read_link(path)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes()
    } else {
        Vec::new()
    };
    let is_file = about.is_file();
    Print {
        mode: about.mode(),
        owner: (about.uid(), about.gid()),
        modified: (about.mtime(), about.mtime_nsec()),
        device: about.rdev(),
        first_name,
        size: if is_file { about.size() } else { 0 },
        blocks: if is_file { about.blocks() } else { 0 },
        content,
        attributes: attributes(path),
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4 << 10];
    let length = llistxattr(path, names.as_mut_slice()).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let value = |name: &[u8]| {
        let mut value = vec![0; 4 << 10];
        let length = lgetxattr(path, name, value.as_mut_slice()).unwrap();
        (name.to_vec(), value[..length].to_vec())
    };
    names.filter(|name| !name.is_empty()).map(value).collect()
}

/// What two trees differ in, briefly.
pub fn differences(
    one: &BTreeMap<PathBuf, Print>,
    other: &BTreeMap<PathBuf, Print>,
) -> Vec<String> {
    let paths = one.keys().chain(other.keys()).collect::<BTreeSet<_>>();
    paths
        .into_iter()
        .filter(|path| one.get(*path) != other.get(*path))
        .map(|path| format!("{path:?}: {:?} is not {:?}", one.get(path), other.get(path)))
        .take(3)
        .collect()
}

/// `files` small files in directories of 100, and one of everything else.
pub fn make(top: &Path, files: usize) {
    for number in 0..files {
        let directory = top.join(format!("many/{}", number / 100));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(number.to_string());
        fs::write(&path, format!("content of {number}")).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o400][number % 4];
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let number = i64::try_from(number).unwrap();
        set_time(&path, 1_400_000_000 + number, number * 1_001);
    }
    one_of_everything(top);
}

fn one_of_everything(top: &Path) {
    fs::create_dir_all(top.join("d/empty")).unwrap();
    fs::write(top.join("d/file"), "content").unwrap();
    fs::hard_link(top.join("d/file"), top.join("d/second name")).unwrap();
    fs::hard_link(top.join("d/file"), top.join("third")).unwrap();
    setxattr(
        top.join("third"),
        "user.kept",
        b"a\0=\n",
        XattrFlags::empty(),
    )
    .unwrap();
    chown(top.join("third"), Some(1_234), Some(3_000_000)).unwrap();
    symlink("/anywhere/at all", top.join("absolute")).unwrap();
    symlink("d/file", top.join("relative")).unwrap();
    symlink("x".repeat(300), top.join("long")).unwrap();
    fs::write(top.join("n".repeat(200)), "long name").unwrap();
    fs::write(top.join("grün"), "unicode").unwrap();
    fs::write(top.join("setuid"), "#!").unwrap();
    fs::set_permissions(top.join("setuid"), Permissions::from_mode(0o4751)).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 5 << 20).unwrap();
    set_time(&top.join("absolute"), 1_500_000_000, 1);
    set_time(&top.join("grün"), -5, 250_000_000);
    set_time(&top.join("d/empty"), 1_400_000_000, 999_999_999);
    set_time(&top.join("d"), 1_400_000_001, 5);
    set_time(top, 1_300_000_000, 7);
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
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
