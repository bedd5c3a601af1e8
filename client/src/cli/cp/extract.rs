//! A tar stream into a local directory, with everything as it was inside.
//!
//! No entry is written through a link: links come last, and what is on an entry's way must be directories.
//! What is made is its maker's alone until it is whole, also if it never becomes so.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{
    DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags, lsetxattr, mknodat,
    utimensat,
};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::place::{Placement, Top};

/// How much is looked at for zeros at once: a block of common file systems.
const BLOCK: usize = 4 << 10;
/// The largest pax header that a server sends.
const MAX_PAX: u64 = 2 << 20;

/// Set-user-id and set-group-id.
const RUNS_AS_OWNER: u32 = 0o6000;

/// Extracts an archive. Owners are kept if asked for, and otherwise whoever extracts.
pub(super) fn extract(archive: impl Read, placement: &Placement, owners: bool) -> io::Result<()> {
    let mut extractor = Extractor {
        placement,
        owners,
        symlinks: Vec::new(),
        directories: Vec::new(),
        pax: Pax::default(),
    };
    let mut archive = tar::Archive::new(archive);
    // As they are: the library's own reading of pax headers takes no binary values.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::XHeader => extractor.pax = Pax::read(&mut entry)?,
            _ => {
                extractor.take(&mut entry)?;
                extractor.pax = Pax::default();
            }
        }
    }
    // Up to the end of the stream, so that the other side can finish.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    extractor.finish()
}

/// What an entry says besides its contents.
struct About {
    mode: u32,
    owner: Option<(u32, u32)>,
    modified: (i64, u32),
    attributes: Vec<(OsString, Vec<u8>)>,
}

struct Extractor<'a> {
    placement: &'a Placement,
    owners: bool,
    /// Made last, so that nothing is written through them.
    symlinks: Vec<(PathBuf, PathBuf, About)>,
    /// Their times are set last.
    directories: Vec<(PathBuf, About)>,
    /// What was said of the entry that comes next.
    pax: Pax,
}

/// The records of a pax header.
#[derive(Default)]
struct Pax(Vec<(Vec<u8>, Vec<u8>)>);

impl Pax {
    /// Records of the form `length key=value\n`, where the length counts the record itself.
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut data = Vec::new();
        from.take(MAX_PAX).read_to_end(&mut data)?;
        let mut records = Vec::new();
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (record, more) =
                split_record(rest).ok_or_else(|| refused("a pax header is malformed"))?;
            records.push(record);
            rest = more;
        }
        Ok(Self(records))
    }

    fn get(&self, wanted: &[u8]) -> Option<&[u8]> {
        let record = self.0.iter().rev().find(|(key, _)| key == wanted);
        record.map(|(_, value)| value.as_slice())
    }
}

type Record = (Vec<u8>, Vec<u8>);

fn split_record(data: &[u8]) -> Option<(Record, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    Some(((key.to_vec(), value.to_vec()), &data[length..]))
}

impl Extractor<'_> {
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let name = self.pax.get(b"path").map(<[u8]>::to_vec);
        let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(path) = self.place(&name)? else {
            return Ok(());
        };
        self.require_directories(&path)?;
        let about = self.about(entry)?;
        let link = self.pax.get(b"linkpath").map(<[u8]>::to_vec);
        let link = link.or_else(|| entry.link_name_bytes().map(|link| link.into_owned()));
        let link = link.unwrap_or_default();
        match entry.header().entry_type() {
            EntryType::Directory => {
                match DirBuilder::new().mode(0o700).create(&path) {
                    Err(error)
                        if error.kind() == io::ErrorKind::AlreadyExists && is_directory(&path) => {}
                    made => made?,
                }
                self.directories.push((path, about));
                Ok(())
            }
            EntryType::Symlink => {
                self.symlinks
                    .push((path, OsString::from_vec(link).into(), about));
                Ok(())
            }
            EntryType::Link => {
                let first = self.place(&link)?;
                let first = first.ok_or_else(|| refused("a link leads to no file"))?;
                self.require_directories(&first)?;
                remove_file(&path)?;
                fs::hard_link(first, path)
            }
            EntryType::Fifo => {
                remove_file(&path)?;
                mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
                apply(&path, &about)
            }
            EntryType::Regular => {
                remove_file(&path)?;
                let mut new = OpenOptions::new();
                let mut file = new.write(true).create_new(true).mode(0o600).open(&path)?;
                if copy_sparse(entry, &mut file)? < entry.size() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                apply(&path, &about)
            }
            _ => Err(refused("an entry is of an unexpected kind")),
        }
    }

    /// Where an entry goes; none for a top that is dissolved.
    fn place(&self, name: &[u8]) -> io::Result<Option<PathBuf>> {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        let mut steps = Vec::new();
        // "." is the top of what has no name of its own.
        let mut has_top = false;
        for step in name.components() {
            match step {
                Component::Normal(step) if has_top => steps.push(step),
                Component::Normal(_) | Component::CurDir => has_top = true,
                _ => return Err(refused("an entry's name leads out")),
            }
        }
        let mut path = self.placement.directory.clone();
        match &self.placement.top {
            Top::Dissolved if steps.is_empty() => return Ok(None),
            Top::Dissolved => {}
            Top::Named(top) => path.push(top),
        }
        path.extend(steps);
        Ok(Some(path))
    }

    fn require_directories(&self, path: &Path) -> io::Result<()> {
        let below = path.strip_prefix(&self.placement.directory);
        let parent = below.ok().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut on_the_way = self.placement.directory.clone();
        for step in parent.components() {
            on_the_way.push(step);
            if !is_directory(&on_the_way) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(())
    }

    fn about(&self, entry: &Entry<'_, impl Read>) -> io::Result<About> {
        let header = entry.header();
        let mut mode = header.mode()? & 0o7777;
        if !self.owners && header.entry_type() != EntryType::Directory {
            // They were about its owner inside, and would lend out the rights of whoever extracts.
            mode &= !RUNS_AS_OWNER;
        }
        let id = |id: u64| u32::try_from(id).map_err(|_| refused("an owner is impossible"));
        let owner = (id(header.uid()?)?, id(header.gid()?)?);
        let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
        let mut about = About {
            mode,
            owner: self.owners.then_some(owner),
            modified: (seconds, 0),
            attributes: Vec::new(),
        };
        for (key, value) in &self.pax.0 {
            about.extend(key, value)?;
        }
        Ok(about)
    }

    fn finish(mut self) -> io::Result<()> {
        for (path, target, about) in std::mem::take(&mut self.symlinks) {
            remove_file(&path)?;
            symlink(target, &path)?;
            if let Some((uid, gid)) = about.owner {
                lchown(&path, Some(uid), Some(gid))?;
            }
            set_time(&path, about.modified)?;
        }
        // What is below comes after what is above.
        for (path, about) in self.directories.iter().rev() {
            apply(path, about)?;
        }
        Ok(())
    }
}

impl About {
    fn extend(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let number = || {
            let text = std::str::from_utf8(value).ok();
            let number = text.and_then(|text| text.parse().ok());
            number.ok_or_else(|| refused("an owner is malformed"))
        };
        match (key, &mut self.owner) {
            (b"mtime", _) => {
                let time = parse_time(value);
                self.modified = time.ok_or_else(|| refused("a time is malformed"))?;
            }
            (b"uid", Some((uid, _))) => *uid = number()?,
            (b"gid", Some((_, gid))) => *gid = number()?,
            // As set-user-id: a right that only root can give.
            (b"SCHILY.xattr.security.capability", None) => {}
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = OsString::from_vec(name.to_vec());
                    self.attributes.push((name, value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// `seconds.fraction`, with a minus sign before 1970.
fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = match fraction {
        "" => 0,
        digits => format!("{digits:0<9}").get(..9)?.parse().ok()?,
    };
    if text.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// Owner first, since changing it takes set-user-id bits and capabilities away; mode after the attributes,
/// since it may forbid to write them.
fn apply(path: &Path, about: &About) -> io::Result<()> {
    if let Some((uid, gid)) = about.owner {
        chown(path, Some(uid), Some(gid))?;
    }
    for (name, value) in &about.attributes {
        match lsetxattr(path, name.as_bytes(), value, XattrFlags::empty()) {
            // Not every file system keeps them, and not everybody may set each.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    fs::set_permissions(path, Permissions::from_mode(about.mode))?;
    set_time(path, about.modified)
}

fn set_time(path: &Path, (seconds, nanoseconds): (i64, u32)) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

/// Makes room for a file. A directory is not removed for one.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What is all zeros becomes a hole. Answers with the length.
fn copy_sparse(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    let mut block = [0; BLOCK];
    let mut length = 0;
    loop {
        let got = fill(from, &mut block)?;
        if got == 0 {
            return to.set_len(length).map(|()| length);
        }
        if block[..got].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(got).unwrap_or(0)))?;
        } else {
            to.write_all(&block[..got])?;
        }
        length += got as u64;
    }
}

fn fill(from: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < block.len() {
        match from.read(&mut block[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

fn refused(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use rustix::fs::lgetxattr;
    use rustix::process::{getegid, geteuid};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use tar::{Builder, Header};
    use tempfile::TempDir;

    const CAPABILITY: &str = "security.capability";
    /// CAP_NET_RAW, permitted and effective, in the kernel's second format.
    const NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(geteuid().as_raw().into());
        header.set_gid(getegid().as_raw().into());
        header.set_mtime(1_400_000_000);
        header.set_size(size);
        header
    }

    /// A directory of `mode` with a file of `mode` and these attributes.
    fn archive(directory: u32, file: u32, attributes: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        let mut top = header(EntryType::Directory, directory, 0);
        tar.append_data(&mut top, "top", io::empty()).unwrap();
        let records: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value))
            .collect();
        let records = records.iter().map(|(key, value)| (key.as_str(), *value));
        tar.append_pax_extensions(records).unwrap();
        let mut entry = header(EntryType::Regular, file, 6);
        tar.append_data(&mut entry, "top/file", &b"secret"[..])
            .unwrap();
        tar.into_inner().unwrap()
    }

    /// Where an archive was extracted to, and how that went.
    fn extracted(archive: &[u8], owners: bool) -> (TempDir, io::Result<()>) {
        let place = tempfile::tempdir().unwrap();
        let placement = Placement {
            directory: place.path().to_owned(),
            top: Top::Named("top".into()),
        };
        let done = extract(archive, &placement, owners);
        (place, done)
    }

    fn mode(place: &TempDir, path: &str) -> u32 {
        let about = fs::metadata(place.path().join(path)).unwrap();
        about.permissions().mode() & 0o7777
    }

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 64];
        let length = lgetxattr(path, name, value.as_mut_slice()).ok()?;
        value.truncate(length);
        Some(value)
    }

    #[test]
    fn what_has_not_arrived_whole_is_nobody_elses_to_read() {
        let whole = archive(0o755, 0o644, &[]);
        let at = whole.windows(6).position(|bytes| bytes == b"secret");
        let (place, done) = extracted(&whole[..at.unwrap() + 3], false);
        done.unwrap_err();
        assert_eq!(fs::read(place.path().join("top/file")).unwrap(), b"sec");
        assert_eq!(mode(&place, "top"), 0o700);
        assert_eq!(mode(&place, "top/file"), 0o600);

        let (place, done) = extracted(&whole, false);
        done.unwrap();
        assert_eq!(mode(&place, "top"), 0o755);
        assert_eq!(mode(&place, "top/file"), 0o644);
    }

    #[test]
    fn rights_to_run_as_another_are_kept_only_with_the_owner() {
        let archive = archive(0o2775, 0o6755, &[(CAPABILITY, NET_RAW)]);
        let (place, done) = extracted(&archive, false);
        done.unwrap();
        let file = place.path().join("top/file");
        assert_eq!(mode(&place, "top/file"), 0o755);
        assert_eq!(attribute(&file, CAPABILITY), None);
        // A directory's bit only says whose the files in it are.
        assert_eq!(mode(&place, "top"), 0o2775);

        let may = lsetxattr(&file, CAPABILITY, NET_RAW, XattrFlags::empty()).is_ok();
        let (place, done) = extracted(&archive, true);
        done.unwrap();
        let kept = attribute(&place.path().join("top/file"), CAPABILITY);
        assert_eq!(mode(&place, "top/file"), 0o6755);
        assert_eq!(kept.as_deref(), may.then_some(NET_RAW));
    }

    #[test]
    fn a_file_that_its_owner_may_not_write_keeps_its_attributes() {
        let archive = archive(0o555, 0o444, &[("user.kept", b"value")]);
        // On a thread of its own: modes say nothing to root otherwise.
        let extracting = std::thread::spawn(move || {
            let mut ours = capabilities(None).unwrap();
            ours.effective.remove(CapabilitySet::DAC_OVERRIDE);
            set_capabilities(None, ours).unwrap();
            extracted(&archive, false)
        });
        let (place, done) = extracting.join().unwrap();
        done.unwrap();
        let file = place.path().join("top/file");
        assert_eq!(mode(&place, "top/file"), 0o444);
        assert_eq!(mode(&place, "top"), 0o555);
        if lsetxattr(place.path(), "user.any", b"", XattrFlags::empty()).is_ok() {
            assert_eq!(attribute(&file, "user.kept").unwrap(), b"value");
        }
        // So that it can be removed.
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(place.path().join("top"), open).unwrap();
    }
}
