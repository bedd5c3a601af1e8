//! Somebody inside swaps a directory and a link all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

const ROUNDS: usize = 300;
/// So many more at most until something has got through to the directory: on a busy machine the swapper is always
/// faster, now and then.
const MOST_ROUNDS: usize = 100 * ROUNDS;

/// Swaps two names until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !seen.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn swaps(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// `dir` is a directory in one moment, and a link to the outside in the next.
fn swapped(place: &Place) -> Swapper {
    fs::create_dir(place.inside("dir")).unwrap();
    fs::write(place.inside("dir/secret"), "inside").unwrap();
    std::os::unix::fs::symlink(place.outside(), place.inside("link")).unwrap();
    Swapper::start(place.inside("dir"), place.inside("link"))
}

#[tokio::test]
async fn archives_are_never_written_through_a_link_that_comes_and_goes() {
    let place = Place::new();
    let swapper = swapped(&place);
    let mut written = 0;
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && written > 0 {
            break;
        }
        let archive = Archive::default()
            .file(&format!("dir/new-{round}"), "x")
            .add(
                &format!("dir/sub-{round}"),
                tar::EntryType::Directory,
                "",
                b"",
            )
            .file(&format!("dir/sub-{round}/file"), "x")
            .add("dir/fifo", tar::EntryType::Fifo, "", b"")
            .add("dir/hard", tar::EntryType::Link, "dir/secret", b"")
            .file("dir/secret", "inside");
        let done = unpacked(place.root(), into("/"), &archive.end()).await;
        written += done.map_or_else(|partial| partial.entries, |done| done.entries);
    }
    assert!(swapper.swaps() > 0);
    assert!(written > 0, "some got through to the directory");
    place.assert_nothing_outside_changed();
}

#[tokio::test]
async fn files_are_never_written_or_read_through_a_link_that_comes_and_goes() {
    let place = Place::new();
    let swapper = swapped(&place);
    let (mut read, mut written) = (0, 0);
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && read > 0 && written > 0 {
            break;
        }
        let root = place.root();
        if let Ok((mut file, _)) = open_file(&root, "/dir/secret") {
            let mut content = String::new();
            std::io::Read::read_to_string(&mut file, &mut content).unwrap();
            assert_eq!(content, "inside");
            read += 1;
        }
        let what = WriteFile {
            path: format!("/dir/new-{round}"),
            mode: None,
            uid: None,
            gid: None,
            create_parents: true,
            owner: me(),
        };
        written += u32::from(write(&root, &what, &b"x"[..]).is_ok());
    }
    assert!(swapper.swaps() > 0);
    assert!(read > 0 && written > 0, "{read} read, {written} written");
    place.assert_nothing_outside_changed();
}

#[tokio::test]
async fn what_is_archived_is_never_outside() {
    let place = Place::new();
    let swapper = swapped(&place);
    let mut found = 0;
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && found > 0 {
            break;
        }
        let archive = packed(place.root(), "/").await.unwrap();
        let mut tar = tar::Archive::new(&archive[..]);
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let mut content = String::new();
                std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
                assert_eq!(content, "inside");
                found += 1;
            }
        }
    }
    assert!(swapper.swaps() > 0);
    assert!(found > 0);
    place.assert_nothing_outside_changed();
}
