//! Where a copy goes: what the operands say, and what is there already. Pure, but for looking at local
//! paths.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// One operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// `-`.
    Stream,
    Local(String),
    Inside(Inside),
}

/// A path of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) container: String,
    /// Absolute and clean.
    pub(super) path: String,
    /// `DIR/.`: not the directory, but what is in it.
    pub(super) contents_only: bool,
    /// It ends with a slash, or with `/.`.
    pub(super) means_what_it_leads_to: bool,
}

/// What is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: OsString,
    pub(super) is_directory: bool,
    pub(super) contents_only: bool,
}

/// What is at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing { path: String },
    File { path: String },
    Directory { path: String },
}

/// What an archive's top becomes in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Top {
    Named(OsString),
    /// Nothing: what is below it goes into the directory itself.
    Dissolved,
}

/// A local directory, and what an archive's top becomes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) directory: PathBuf,
    pub(super) top: Top,
}

impl Operand {
    /// `CONTAINER:PATH`; what begins with `/` or `.`, or has no colon, is local.
    pub(super) fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((container, path)) if !text.starts_with(['/', '.']) && !container.is_empty() => {
                Self::Inside(Inside::new(container, path))
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

impl Inside {
    fn new(container: &str, path: &str) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        Self {
            container: container.to_owned(),
            path: clean(path),
            contents_only: last == ".",
            means_what_it_leads_to: matches!(last, "" | ".") && path.len() > 1,
        }
    }

    /// What a copy of it is called.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// An absolute path without `.`, `..` and empty steps.
fn clean(path: &str) -> String {
    let mut steps = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

/// Where a link at `path` leads.
pub(super) fn led_to(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let (parent, _) = split(path);
    clean(&format!("{parent}/{target}"))
}

/// Directory and name.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("/", path),
    }
}

/// Where a copy goes in a container: the directory, and what it is called there.
pub(super) fn inside(source: &Source, found: &Found, asked: &Inside) -> io::Result<(String, Top)> {
    let in_its_place = |path: &str| {
        let (parent, name) = split(path);
        Ok((parent.to_owned(), Top::Named(name.into())))
    };
    match found {
        Found::Directory { path } if source.contents_only => Ok((path.clone(), Top::Dissolved)),
        Found::Directory { path } => Ok((path.clone(), Top::Named(source.name.clone()))),
        Found::File { .. } if source.is_directory || asked.means_what_it_leads_to => {
            Err(not_a_directory())
        }
        Found::Nothing { .. } if !source.is_directory && asked.means_what_it_leads_to => {
            Err(io::ErrorKind::NotFound.into())
        }
        Found::File { path } | Found::Nothing { path } => in_its_place(path),
    }
}

/// Where a copy goes on this machine.
pub(super) fn local(source: &Source, to: &str) -> io::Result<Placement> {
    let path = Path::new(to);
    let in_its_place = || {
        let path = std::path::absolute(path)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Placement {
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
            top: Top::Named(name.to_owned()),
        })
    };
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => Ok(Placement {
            directory: path.to_owned(),
            top: if source.contents_only || source.name.is_empty() {
                Top::Dissolved
            } else {
                Top::Named(source.name.clone())
            },
        }),
        Ok(_) if source.is_directory || to.ends_with('/') => Err(not_a_directory()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if to.ends_with('/') && !source.is_directory {
                return Err(error);
            }
            in_its_place()
        }
        Ok(_) => in_its_place(),
        Err(error) => Err(error),
    }
}

fn not_a_directory() -> io::Error {
    io::ErrorKind::NotADirectory.into()
}

/// What of this machine is to be copied, and under which name.
pub(super) fn source(text: &str, follow_link: bool) -> io::Result<(PathBuf, Source)> {
    let last = text.rsplit('/').next().unwrap_or_default();
    let path = Path::new(text);
    let follow = follow_link || matches!(last, "" | "." | "..");
    let resolved = if follow {
        path.canonicalize()?
    } else {
        path.to_owned()
    };
    let about = std::fs::symlink_metadata(&resolved)?;
    if last.is_empty() && !about.is_dir() {
        return Err(not_a_directory());
    }
    // A link that is followed gives the copy its own name.
    let named = match path.components().next_back() {
        Some(Component::Normal(name)) => Some(name),
        _ => resolved.file_name(),
    };
    let name = named.map(OsString::from).unwrap_or_default();
    let contents_only = last == "." || name.is_empty();
    let source = Source {
        name,
        is_directory: about.is_dir(),
        contents_only,
    };
    Ok((resolved, source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn inside_of(text: &str) -> Inside {
        match Operand::parse(text) {
            Operand::Inside(inside) => inside,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn operands_are_told_apart() {
        assert_eq!(Operand::parse("-"), Operand::Stream);
        for local in ["file", "/a:b", "./a:b", "../a:b", ":x"] {
            assert_eq!(Operand::parse(local), Operand::Local(local.to_owned()));
        }
        let web = inside_of("web:etc/../var//log/.");
        assert_eq!((&web.container[..], &web.path[..]), ("web", "/var/log"));
        assert!(web.contents_only && web.means_what_it_leads_to);
        assert!(!inside_of("web:/a").means_what_it_leads_to);
        assert!(inside_of("web:/a/").means_what_it_leads_to);
        assert_eq!(inside_of("web:").path, "/");
    }

    #[test]
    fn links_lead_from_where_they_are() {
        assert_eq!(led_to("/a/link", "/x/./y"), "/x/y");
        assert_eq!(led_to("/a/link", "../b"), "/b");
        assert_eq!(led_to("/link", "b"), "/b");
    }

    fn source_of(is_directory: bool, contents_only: bool) -> Source {
        Source {
            name: "src".into(),
            is_directory,
            contents_only,
        }
    }

    #[test]
    fn a_copy_into_a_container_goes_where_dockers_goes() {
        let (file, dir, contents) = (
            source_of(false, false),
            source_of(true, false),
            source_of(true, true),
        );
        let path = || "/to".to_owned();
        let (nothing, directory, a_file) = (
            Found::Nothing { path: path() },
            Found::Directory { path: path() },
            Found::File { path: path() },
        );
        let (plain, slash) = (inside_of("c:/to"), inside_of("c:/to/"));
        let goes = |source, found, asked| {
            inside(source, found, asked)
                .map(|(directory, top)| match top {
                    Top::Named(name) => format!("{directory} {}", name.display()),
                    Top::Dissolved => directory,
                })
                .unwrap_or_default()
        };
        for (source, found, asked, expected) in [
            (&file, &directory, &plain, "/to src"),
            (&file, &a_file, &plain, "/ to"),
            (&file, &nothing, &plain, "/ to"),
            (&file, &nothing, &slash, ""),
            (&file, &a_file, &slash, ""),
            (&dir, &directory, &plain, "/to src"),
            (&dir, &nothing, &plain, "/ to"),
            (&dir, &nothing, &slash, "/ to"),
            (&dir, &a_file, &plain, ""),
            (&contents, &directory, &plain, "/to"),
            (&contents, &nothing, &plain, "/ to"),
            (&contents, &a_file, &plain, ""),
        ] {
            assert_eq!(goes(source, found, asked), expected, "{source:?} {found:?}");
        }
    }

    #[test]
    fn a_copy_out_of_a_container_goes_where_dockers_goes() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let goes = |source: &Source, to: &str| local(source, &at(to)).ok();
        let named = |directory: &str, name: &str| {
            Some(Placement {
                directory: at(directory).trim_end_matches('/').into(),
                top: Top::Named(name.into()),
            })
        };
        let (file, dir) = (source_of(false, false), source_of(true, false));
        assert_eq!(goes(&file, "dir"), named("dir", "src"));
        assert_eq!(goes(&file, "file"), named("", "file"));
        assert_eq!(goes(&file, "new"), named("", "new"));
        assert_eq!(goes(&file, "new/"), None);
        assert_eq!(goes(&dir, "file"), None);
        assert_eq!(goes(&dir, "new/"), named("", "new"));
        let dissolved = goes(&source_of(true, true), "dir").unwrap();
        assert_eq!(dissolved.top, Top::Dissolved);
    }
}
