//! Mounts that are in no namespace: made for a descriptor, gone with it, and in nobody's mount table.

use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::error::FileError;
use crate::model::container::RootMount;
use crate::model::errno::name;

/// What a kernel must have to be given an overlay's layers one by one, however many there are.
const LAYERS_ONE_BY_ONE: &str = "overlay option lowerdir+ (Linux 6.5)";
/// The longest value that the kernel takes for one option.
const MAX_OPTION: usize = 255;

/// Mounts a container's root. Backends prepare it as one mount.
pub(super) fn detached(mounts: &[RootMount]) -> Result<OwnedFd, FileError> {
    let [mount] = mounts else {
        return Err(FileError::Mount {
            source_path: String::new(),
            errno: format!("{} mounts", mounts.len()),
        });
    };
    match mount.kind.as_str() {
        "bind" => bind(mount),
        "overlay" => overlay(mount),
        kind => Err(FileError::Mount {
            source_path: kind.to_owned(),
            errno: name(Errno::NODEV),
        }),
    }
}

/// A directory, as it is.
fn bind(mount: &RootMount) -> Result<OwnedFd, FileError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, mount.source.as_str(), flags).map_err(|errno| failed(mount, errno))
}

fn overlay(mount: &RootMount) -> Result<OwnedFd, FileError> {
    let fs =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| failed(mount, errno))?;
    fsconfig_set_string(&fs, "source", "overlay").map_err(|errno| failed(mount, errno))?;
    for option in &mount.options {
        configure(&fs, mount, option)?;
    }
    fsconfig_create(&fs).map_err(|errno| failed(mount, errno))?;
    // Nothing here opens devices; the mount would not let it either.
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|errno| failed(mount, errno))
}

fn configure(fs: &OwnedFd, mount: &RootMount, option: &str) -> Result<(), FileError> {
    let set = match option.split_once('=') {
        Some(("lowerdir", layers)) => return lower(fs, mount, layers),
        Some((key, value)) => fsconfig_set_string(fs, key, value),
        // Of the mount, not of the file system; whether a root is written to is its user's to say.
        None if matches!(option, "ro" | "rw") => Ok(()),
        None => fsconfig_set_flag(fs, option),
    };
    set.map_err(|errno| failed(mount, errno))
}

/// All layers at once where they fit into one value, as every kernel can; else one by one.
fn lower(fs: &OwnedFd, mount: &RootMount, layers: &str) -> Result<(), FileError> {
    if layers.len() <= MAX_OPTION {
        return fsconfig_set_string(fs, "lowerdir", layers).map_err(|errno| failed(mount, errno));
    }
    for layer in split_layers(layers) {
        fsconfig_set_string(fs, "lowerdir+", layer).map_err(|errno| match errno {
            Errno::INVAL => FileError::KernelFeature {
                feature: LAYERS_ONE_BY_ONE,
            },
            errno => failed(mount, errno),
        })?;
    }
    Ok(())
}

/// Splits at colons; one that belongs to a path has a backslash before it.
fn split_layers(layers: &str) -> Vec<String> {
    let mut split = vec![String::new()];
    let mut letters = layers.chars();
    while let Some(letter) = letters.next() {
        match (letter, split.last_mut()) {
            (':', _) => split.push(String::new()),
            ('\\', Some(layer)) => layer.extend(letters.next()),
            (letter, Some(layer)) => layer.push(letter),
            (_, None) => {}
        }
    }
    split
}

fn failed(mount: &RootMount, errno: Errno) -> FileError {
    let mut upper = mount.options.iter().rev();
    let upper = upper.find_map(|option| option.strip_prefix("upperdir="));
    FileError::Mount {
        source_path: upper.unwrap_or(&mount.source).to_owned(),
        errno: name(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_split_at_colons_that_belong_to_no_path() {
        assert_eq!(split_layers("/a:/b:/c"), ["/a", "/b", "/c"]);
        assert_eq!(split_layers(r"/a\:b:/c\\d"), ["/a:b", r"/c\d"]);
    }
}
