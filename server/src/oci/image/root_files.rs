//! What a few files will be once all layers are stacked, found by reading the layers' tars: whiteouts
//! and opaque directories (image-spec, "Whiteouts") hide what lower layers have, and symbolic links are
//! followed within the root, as the kernel would.
//!
//! Only the files asked for, and what is on the way to them, without contents, are kept in memory: however often
//! a layer says something.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use crate::model::limits::MAX_PATH_BYTES;
use crate::tarball::{Entry, Kind};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Links followed on the way to one file, as the kernel does (path_resolution(7)).
const MAX_LINKS: usize = 40;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    /// Another name of the file at that path.
    Hardlink(String),
    /// No file to read, and no way to one: a device, a file where a directory is asked for.
    Special,
}

/// What a path came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    Found(&'a [u8]),
    /// Not there, or no file.
    Absent,
    /// It goes on at a path that was not tracked: track it, and read the layers again.
    Untracked(String),
}

/// The tracked part of a root. Feed it all layers, the lowest first.
#[derive(Debug, Default)]
pub(super) struct RootFiles {
    /// The files asked for.
    wanted: BTreeSet<String>,
    /// These, and what is on the way to them.
    tracked: BTreeSet<String>,
    nodes: BTreeMap<String, Node>,
    layer: Changes,
}

/// What the current layer does to the ones below it.
#[derive(Debug, Default)]
struct Changes {
    removed: BTreeSet<String>,
    emptied: BTreeSet<String>,
    nodes: BTreeMap<String, Node>,
}

impl RootFiles {
    /// Will keep what is at `paths` (without a leading `/`) and on the way there.
    pub(super) fn tracking<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut files = Self::default();
        for path in paths {
            let ends = path.match_indices('/').map(|(at, _)| at);
            let ends = ends.chain([path.len()]);
            files.tracked.extend(ends.map(|end| path[..end].to_owned()));
            files.wanted.insert(path.to_owned());
        }
        files
    }

    /// Takes one entry of the current layer; `data` gives its contents.
    ///
    /// # Errors
    /// Whatever `data` gives; `FileTooLarge` for a tracked file above 1 MiB.
    pub(super) fn visit(&mut self, entry: &Entry, data: &mut impl Read) -> io::Result<()> {
        let Ok(path) = std::str::from_utf8(&entry.path) else {
            return Ok(());
        };
        let path = clean("", path);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            if self.matters(parent) {
                self.layer.emptied.insert(parent.to_owned());
            }
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden = join(parent, hidden);
            if self.matters(&hidden) {
                self.layer.removed.insert(hidden);
            }
        } else if self.wanted.contains(&path) {
            let node = wanted_node(entry, parent, data)?;
            self.layer.nodes.insert(path, node);
        } else if self.tracked.contains(&path) {
            self.layer.nodes.insert(path, node(entry));
        }
        Ok(())
    }

    /// Puts the current layer on top of those before it. Its whiteouts concern only those, wherever in the
    /// layer they stand.
    pub(super) fn end_layer(&mut self) {
        let changes = std::mem::take(&mut self.layer);
        for path in &changes.removed {
            self.nodes.remove(path);
            self.remove_below(path);
        }
        for path in &changes.emptied {
            self.remove_below(path);
        }
        for (path, node) in changes.nodes {
            if node != Node::Directory {
                self.remove_below(&path);
            }
            self.nodes.insert(path, node);
        }
    }

    /// The file at `path`.
    pub(super) fn find(&self, path: &str) -> Lookup<'_> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.step(&path) {
                Step::Is(lookup) => return lookup,
                // The kernel gives up, too.
                Step::GoesOn(next) if next.len() > MAX_PATH_BYTES => break,
                Step::GoesOn(next) => path = next,
            }
        }
        Lookup::Absent
    }

    /// Follows `path` up to the first link, if there is one.
    fn step(&self, path: &str) -> Step<'_> {
        if !self.wanted.contains(path) {
            return Step::Is(Lookup::Untracked(path.to_owned()));
        }
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (here, rest) = path.split_at(end);
            match self.nodes.get(here) {
                Some(Node::Symlink(target)) => {
                    let parent = here.rsplit_once('/').map_or("", |(parent, _)| parent);
                    return Step::GoesOn(clean(parent, &format!("{target}/{rest}")));
                }
                Some(Node::Hardlink(target)) => return Step::GoesOn(target.clone()),
                Some(Node::File(data)) if rest.is_empty() => {
                    return Step::Is(Lookup::Found(data));
                }
                Some(Node::File(_) | Node::Special) => return Step::Is(Lookup::Absent),
                // A directory need not have an entry of its own.
                Some(Node::Directory) | None => {}
            }
        }
        Step::Is(Lookup::Absent)
    }

    fn remove_below(&mut self, directory: &str) {
        if directory.is_empty() {
            self.nodes.clear();
            return;
        }
        self.nodes.retain(|path, _| {
            let rest = path.strip_prefix(directory);
            !rest.is_some_and(|rest| rest.starts_with('/'))
        });
    }

    /// Whether hiding it can hide something tracked.
    fn matters(&self, path: &str) -> bool {
        path.is_empty() || self.tracked.contains(path)
    }
}

enum Step<'a> {
    Is(Lookup<'a>),
    GoesOn(String),
}

fn wanted_node(entry: &Entry, parent: &str, data: &mut impl Read) -> io::Result<Node> {
    if entry.kind != Kind::File {
        return Ok(node(entry));
    }
    if entry.size > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("a file in {parent:?} is larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    let mut contents = Vec::new();
    data.read_to_end(&mut contents)?;
    Ok(Node::File(contents))
}

fn node(entry: &Entry) -> Node {
    // One that is not UTF-8 leads to nothing tracked; one that is too long, nowhere.
    let link = std::str::from_utf8(&entry.link).ok();
    let link = link.filter(|link| link.len() <= MAX_PATH_BYTES);
    match (entry.kind, link) {
        (Kind::Directory, _) => Node::Directory,
        (Kind::Symlink, Some(link)) => Node::Symlink(link.to_owned()),
        (Kind::Hardlink, Some(link)) => Node::Hardlink(clean("", link)),
        (Kind::Symlink | Kind::Hardlink, None) => Node::Special,
        (Kind::File | Kind::Fifo | Kind::Device, _) => Node::Special,
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}/{name}")
    }
}

/// `path`, seen from the directory `base`, without `.`, `..`, or a leading `/`. It cannot leave the root.
fn clean(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;
    use crate::tarball::Metadata;

    const PASSWD: &str = "etc/passwd";

    fn entry(kind: Kind, path: &str, link: &str, data: &[u8]) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            link: link.as_bytes().to_vec(),
            size: data.len() as u64,
            metadata: Metadata::default(),
        }
    }

    struct Root(RootFiles);

    impl Root {
        fn new(paths: &[&str]) -> Self {
            Self(RootFiles::tracking(paths.iter().copied()))
        }

        fn layer(mut self, entries: &[(Kind, &str, &str)]) -> Self {
            for (kind, path, text) in entries {
                let data = if *kind == Kind::File { *text } else { "" };
                let entry = entry(*kind, path, text, data.as_bytes());
                let read = self.0.visit(&entry, &mut data.as_bytes());
                read.expect("read");
            }
            self.0.end_layer();
            self
        }

        fn passwd(&self) -> Option<String> {
            match self.0.find(PASSWD) {
                Lookup::Found(data) => Some(String::from_utf8_lossy(data).into_owned()),
                Lookup::Absent => None,
                Lookup::Untracked(path) => panic!("{path} is not tracked"),
            }
        }
    }

    fn stacked(layers: &[&[(Kind, &str, &str)]]) -> Option<String> {
        let root = Root::new(&[PASSWD]);
        let root = layers.iter().fold(root, |root, layer| root.layer(layer));
        root.passwd()
    }

    const FILE: (Kind, &str, &str) = (Kind::File, "./etc/passwd", "low");

    #[test]
    fn the_highest_layer_wins() {
        assert_eq!(stacked(&[]), None);
        assert_eq!(stacked(&[&[FILE]]).as_deref(), Some("low"));
        let high = (Kind::File, "etc/passwd", "high");
        assert_eq!(stacked(&[&[FILE], &[high]]).as_deref(), Some("high"));
        assert_eq!(
            stacked(&[&[FILE], &[(Kind::Directory, "etc/", "")]]).as_deref(),
            Some("low"),
            "directories merge"
        );
    }

    #[test]
    fn whiteouts_hide_what_is_below() {
        for hiding in [
            "etc/.wh.passwd",
            ".wh.etc",
            "etc/.wh..wh..opq",
            ".wh..wh..opq",
        ] {
            let hiding = (Kind::File, hiding, "");
            assert_eq!(stacked(&[&[FILE], &[hiding]]), None, "{hiding:?}");
        }
    }

    #[test]
    fn whiteouts_leave_their_own_layer_alone() {
        for hiding in ["etc/.wh..wh..opq", ".wh.etc", "etc/.wh.passwd"] {
            let new = (Kind::File, "etc/passwd", "new");
            let hiding = (Kind::File, hiding, "");
            for layer in [[new, hiding], [hiding, new]] {
                assert_eq!(stacked(&[&[FILE], &layer]).as_deref(), Some("new"));
            }
        }
    }

    #[test]
    fn a_directory_that_becomes_something_else_loses_its_files() {
        for kind in [Kind::File, Kind::Fifo, Kind::Device] {
            assert_eq!(stacked(&[&[FILE], &[(kind, "etc", "")]]), None);
        }
        assert_eq!(
            stacked(&[&[FILE], &[(Kind::Directory, "etc/passwd", "")]]),
            None
        );
    }

    #[test]
    fn names_that_only_look_alike_are_left_alone() {
        let others: &[_] = &[
            (Kind::File, "etc/passwd-", "other"),
            (Kind::File, "et/.wh.c", ""),
            (Kind::File, "etc2/.wh..wh..opq", ""),
            (Kind::File, "etc/.wh.pass", ""),
        ];
        assert_eq!(stacked(&[&[FILE], others]).as_deref(), Some("low"));
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let root = || {
            Root::new(&[PASSWD, "usr/etc/passwd", "etc/real"]).layer(&[
                (Kind::File, "usr/etc/passwd", "usr"),
                (Kind::File, "etc/real", "real"),
            ])
        };
        for (kind, path, target, expected) in [
            (Kind::Symlink, "etc/passwd", "real", "real"),
            (Kind::Symlink, "etc/passwd", "/etc/real", "real"),
            (Kind::Symlink, "etc/passwd", "../usr/etc/passwd", "usr"),
            (
                Kind::Symlink,
                "etc/passwd",
                "../../../usr/etc/passwd",
                "usr",
            ),
            (Kind::Symlink, "etc", "usr/etc", "usr"),
            (Kind::Hardlink, "etc/passwd", "etc/real", "real"),
        ] {
            let root = root().layer(&[(kind, path, target)]);
            assert_eq!(root.passwd().as_deref(), Some(expected), "{target}");
        }
    }

    #[test]
    fn a_link_out_of_sight_says_where_it_leads() {
        let root = Root::new(&[PASSWD]).layer(&[(Kind::Symlink, "etc", "nix/store/etc")]);
        assert_eq!(
            root.0.find(PASSWD),
            Lookup::Untracked("nix/store/etc/passwd".to_owned())
        );
    }

    #[test]
    fn a_circle_of_links_leads_nowhere() {
        for target in ["passwd", "/etc/passwd", "."] {
            let root = Root::new(&[PASSWD]);
            let root = root.layer(&[(Kind::Symlink, "etc/passwd", target)]);
            assert!(
                matches!(root.0.find(PASSWD), Lookup::Absent | Lookup::Untracked(_)),
                "{target}"
            );
        }
    }

    #[test]
    fn what_is_said_often_is_kept_once() {
        let mut root = RootFiles::tracking([PASSWD]);
        for name in ["etc/.wh.passwd", "etc/.wh..wh..opq", "other/.wh.passwd"] {
            let entry = entry(Kind::File, name, "", b"");
            for _ in 0..1_000 {
                root.visit(&entry, &mut io::empty()).expect("read");
            }
        }
        assert_eq!((root.layer.removed.len(), root.layer.emptied.len()), (1, 1));
    }

    #[test]
    fn what_is_on_the_way_is_not_read() {
        let mut root = RootFiles::tracking(["a/b/c"]);
        for path in ["a", "a/b"] {
            let entry = entry(Kind::File, path, "", b"contents");
            let mut data = &b"contents"[..];
            root.visit(&entry, &mut data).expect("read");
            assert_eq!(data.len(), 8, "{path}");
        }
        root.end_layer();
        assert_eq!(root.find("a/b/c"), Lookup::Absent);
    }

    #[test]
    fn a_link_that_is_longer_than_any_path_leads_nowhere() {
        for target in ["x/".repeat(10_000), "/".to_owned() + &"y".repeat(10_000)] {
            let root = Root::new(&[PASSWD]).layer(&[(Kind::Symlink, "etc/passwd", &target)]);
            assert_eq!(root.0.find(PASSWD), Lookup::Absent);
        }
        // One that grows whenever it is followed.
        let layer = [(
            Kind::Symlink,
            "etc",
            &*("etc/".to_owned() + &"x/".repeat(2_000)),
        )];
        let root = Root::new(&[PASSWD]).layer(&layer);
        let Lookup::Untracked(next) = root.0.find(PASSWD) else {
            panic!("it is not followed");
        };
        let root = Root::new(&[PASSWD, &next]).layer(&layer);
        assert_eq!(root.0.find(PASSWD), Lookup::Absent);
    }

    #[test]
    fn a_huge_file_is_refused() {
        let mut root = RootFiles::tracking([PASSWD]);
        let mut entry = entry(Kind::File, PASSWD, "", b"");
        entry.size = MAX_FILE_BYTES + 1;
        let error = root.visit(&entry, &mut io::empty()).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
