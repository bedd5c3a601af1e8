//! A container's file system, seen by its processes only.
//!
//! What is to be taken along of the host is opened first, as mounts that are nowhere yet. Then the root is
//! mounted and entered, and the host's is let go of. From there on every path is one inside: a link can lead
//! nowhere else, and mounts are attached by descriptors, so that nothing can be exchanged in between.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use wharf_keeper::protocol::launch::{
    LaunchStep, Links, NewContainer, Propagation, Root, Step, Text,
};

use super::Prepared;
use super::child::{Done, at, at_index};
use crate::sys::child::{self as sys, Reach};

/// linux/magic.h.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// Linux's number of the null device, Documentation/admin-guide/devices.txt.
const NULL: (u32, u32) = (1, 3);
/// linux/mount.h; `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;

const EMPTY: &CStr = c"";

/// Makes the file system and enters it.
pub(super) fn enter(prepared: &mut Prepared<'_>, new: &NewContainer) -> Done {
    take_along(prepared, new)?;
    let root = &new.root;
    enter_root(root, prepared.overlay.as_deref()).map_err(at(LaunchStep::Root))?;
    let mut binds = prepared.binds.iter();
    let mut null = None;
    for (index, step) in new.steps.iter().enumerate() {
        let bind = match step {
            Step::Bind { .. } => binds.next(),
            _ => None,
        };
        carry_out(step, bind, &mut null).map_err(at_index(LaunchStep::Step, index))?;
    }
    Ok(())
}

/// When all else is in place.
pub(super) fn seal(root: &Root) -> Result<(), Errno> {
    let mount = open(c"/", OFlags::PATH | OFlags::DIRECTORY)?;
    let read_only = if root.read_only { READ_ONLY } else { 0 };
    let propagation = match root.propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    sys::set_mount(
        &mount,
        Reach::One,
        (read_only, 0),
        propagation.bits().into(),
    )
}

/// Opens what is mounted of the host, each with all below it. Room for it was made before.
fn take_along(prepared: &mut Prepared<'_>, new: &NewContainer) -> Done {
    for (index, step) in new.steps.iter().enumerate() {
        let Step::Bind { source, .. } = step else {
            continue;
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, source.as_c_str(), flags)
            .map_err(at_index(LaunchStep::Step, index))?;
        prepared.binds.push(tree);
    }
    Ok(())
}

/// For a helper: the host's file system, with a container's root mounted in its place.
pub(super) fn prepare_host(
    root: Option<&Root>,
    overlay: Option<&CStr>,
    hidden: &[Text],
) -> Result<(), Errno> {
    // The host's mounts still reach it, since binds of them may be asked for; its own do not reach the host.
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    for hidden in hidden {
        rustix::mount::unmount(hidden.as_c_str(), UnmountFlags::DETACH)?;
    }
    root.map_or(Ok(()), |root| mount_root(root, overlay))
}

fn enter_root(root: &Root, overlay: Option<&CStr>) -> Result<(), Errno> {
    // Of this process's copies only: nothing that is mounted from here on reaches the host.
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount_root(root, overlay)?;
    rustix::process::chdir(root.target.as_c_str())?;
    // The new root on top of the old one, and then the old one away.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn mount_root(root: &Root, overlay: Option<&CStr>) -> Result<(), Errno> {
    let target = root.target.as_c_str();
    match overlay {
        Some(options) => rustix::mount::mount(
            c"overlay",
            target,
            c"overlay",
            MountFlags::empty(),
            Some(options),
        ),
        None => mount_layers(root),
    }
}

/// Layer by layer, for which Linux 6.5 is needed: more of them than fit into one page of options.
fn mount_layers(root: &Root) -> Result<(), Errno> {
    let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &root.lower {
        rustix::mount::fsconfig_set_string(&context, c"lowerdir+", lower.as_c_str())?;
    }
    rustix::mount::fsconfig_set_string(&context, c"upperdir", root.upper.as_c_str())?;
    rustix::mount::fsconfig_set_string(&context, c"workdir", root.work.as_c_str())?;
    let mount = created(&context, MountAttrFlags::empty())?;
    let target = open(root.target.as_c_str(), OFlags::PATH | OFlags::DIRECTORY)?;
    attach(&mount, &target)
}

fn created(context: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    rustix::mount::fsconfig_create(context)?;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn carry_out(step: &Step, bind: Option<&OwnedFd>, null: &mut Option<OwnedFd>) -> Result<(), Errno> {
    match step {
        Step::Mount {
            kind,
            source,
            options,
            attributes,
            target,
            links,
        } => mount([kind, source], options, *attributes, target, *links),
        Step::Bind {
            target,
            attributes,
            all_attributes,
            cleared_attributes,
            propagation,
            ..
        } => {
            let tree = bind.ok_or(Errno::INVAL)?;
            limit(tree, *all_attributes, *propagation)?;
            let own = (*attributes, *cleared_attributes);
            if own != (0, 0) {
                sys::set_mount(tree, Reach::One, own, 0)?;
            }
            mount_tree(tree, target.as_c_str())
        }
        Step::Link { target, path } => {
            let made = rustix::fs::symlink(target.as_c_str(), path.as_c_str());
            unless_there(made)
        }
        Step::Device { path, major, minor } => device(path.as_c_str(), *major, *minor, null),
        Step::Mask { path } => mask(path.as_c_str(), null.as_ref()),
        Step::ReadOnly { path } => read_only(path.as_c_str()),
        Step::Attributes { path, attributes } => {
            let mount = open(path.as_c_str(), OFlags::PATH)?;
            sys::set_mount(&mount, Reach::One, (*attributes, 0), 0)
        }
    }
}

fn mount(
    [kind, source]: [&Text; 2],
    options: &[(Text, Option<Text>)],
    attributes: u64,
    target: &Text,
    links: Links,
) -> Result<(), Errno> {
    let target = directory(target.as_c_str(), links)?;
    let context = rustix::mount::fsopen(kind.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, c"source", source.as_c_str())?;
    for (key, value) in options {
        match value {
            Some(value) => {
                rustix::mount::fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?;
            }
            None => rustix::mount::fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    let attributes = u32::try_from(attributes).map_err(|_| Errno::INVAL)?;
    let mount = created(&context, MountAttrFlags::from_bits_retain(attributes))?;
    attach_outside_of_proc(&mount, &target)
}

fn limit(tree: &OwnedFd, all_attributes: u64, propagation: Propagation) -> Result<(), Errno> {
    let propagation = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    let all = (all_attributes, 0);
    sys::set_mount(tree, Reach::All, all, propagation.bits().into())
}

fn mount_tree(tree: &OwnedFd, target: &CStr) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
    let target = if kind == FileType::Directory {
        directory(target, Links::Follow)?
    } else {
        file(target)?
    };
    attach_outside_of_proc(tree, &target)
}

/// Mounts an open file on this path, which must not be a link.
pub(super) fn mount_file(opened: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = Mode::from_raw_mode(0o600);
    let target = rustix::fs::openat2(CWD, path, flags, mode, resolve)?;
    attach(&copy_of(opened)?, &target)
}

/// A mount of an open file or directory, nowhere yet.
fn copy_of(opened: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(opened, EMPTY, flags)
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, EMPTY, target, EMPTY, flags)
}

/// What is mounted over `/proc` could stand for what the kernel says, and hide what is masked there.
fn attach_outside_of_proc(mount: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::fstatfs(target)?.f_type == PROC_SUPER_MAGIC {
        return Err(Errno::PERM);
    }
    attach(mount, target)
}

fn device(path: &CStr, major: u32, minor: u32, null: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let number = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(0o666);
    let made = rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, number);
    unless_there(made)?;
    let node = open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let found = rustix::fs::fstat(&node)?;
    let is_it = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == number;
    if !is_it {
        return Err(Errno::EXIST);
    }
    // Whatever the file creation mask was.
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?;
    if (major, minor) == NULL {
        *null = Some(node);
    }
    Ok(())
}

/// With the null device that was made here, never with what a path says: an image or another container could
/// have put something else there (CVE-2025-31133).
fn mask(path: &CStr, null: Option<&OwnedFd>) -> Result<(), Errno> {
    let Some(target) = if_there(open(path, OFlags::PATH | OFlags::NOFOLLOW))? else {
        return Ok(());
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
    if kind == FileType::Directory {
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        return attach(&created(&context, attributes)?, &target);
    }
    attach(&copy_of(null.ok_or(Errno::INVAL)?)?, &target)
}

fn read_only(path: &CStr) -> Result<(), Errno> {
    let Some(target) = if_there(open(path, OFlags::PATH | OFlags::NOFOLLOW))? else {
        return Ok(());
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&target, EMPTY, flags)?;
    sys::set_mount(&tree, Reach::All, (READ_ONLY, 0), 0)?;
    attach(&tree, &target)
}

/// Links are followed, but not those of `/proc` that lead to what some process has open.
pub(super) fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// The directory of this path, made if it is missing.
fn directory(path: &CStr, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = match links {
        Links::Follow => ResolveFlags::NO_MAGICLINKS,
        Links::Refuse => ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = || rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve);
    match opened() {
        Err(Errno::NOENT) => {
            make_directories(path)?;
            opened()
        }
        found => found,
    }
}

/// The file of this path, made if it is missing.
fn file(path: &CStr) -> Result<OwnedFd, Errno> {
    match open(path, OFlags::PATH) {
        Err(Errno::NOENT) => {
            let parent = path.to_bytes().iter().rposition(|byte| *byte == b'/');
            make_directories_to(path, parent.unwrap_or(0))?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_MAGICLINKS)
        }
        found => found,
    }
}

/// Makes the directory and those above it, as far as they are missing.
pub(super) fn make_directories(path: &CStr) -> Result<(), Errno> {
    make_directories_to(path, path.to_bytes().len())
}

/// The same, of the first `end` bytes of the path. Mostly only the last one is missing.
fn make_directories_to(path: &CStr, end: usize) -> Result<(), Errno> {
    match make_directory(path, end) {
        Err(Errno::NOENT) => {}
        made => return made,
    }
    let bytes = path.to_bytes();
    let mut ends = (1..=end).filter(|at| *at == end || bytes.get(*at) == Some(&b'/'));
    ends.try_for_each(|to| make_directory(path, to))
}

/// Makes the directory of the first `end` bytes of the path, unless something is there.
fn make_directory(path: &CStr, end: usize) -> Result<(), Errno> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    let (Some(from), Some(part)) = (path.to_bytes().get(..end), buffer.get_mut(..=end)) else {
        return Err(Errno::NAMETOOLONG);
    };
    if let Some(text) = part.get_mut(..end) {
        text.copy_from_slice(from);
    }
    let part = CStr::from_bytes_with_nul(part).map_err(|_| Errno::INVAL)?;
    unless_there(rustix::fs::mkdir(part, Mode::from_raw_mode(0o755)))
}

fn unless_there(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn if_there<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}
