//! Mounts.

use std::collections::HashSet;
use std::path::Path;

use wharf_api::v1;
use wharf_api::v1::bind_mount;
use wharf_api::v1::mount::Source;

use super::{Field, path, reason, resources};
use crate::model::limits;
use crate::model::spec::{Mount, MountSource, Propagation};
use crate::transport::Violations;

/// Sticky and open to all, as `/tmp` is.
const DEFAULT_TMPFS_MODE: u32 = 0o1777;

/// Reads the mounts besides the root.
pub(super) fn mounts(
    mounts: Vec<v1::Mount>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Vec<Mount> {
    if !field.count(mounts.len(), limits::MAX_MOUNTS, out) {
        return Vec::new();
    }
    let mut targets = HashSet::new();
    mounts
        .into_iter()
        .enumerate()
        .filter_map(|(n, message)| {
            let entry = field.at(n);
            let mount = mount(message, &entry, out)?;
            if !targets.insert(mount.target.clone()) {
                entry.child("target").reject(
                    reason::DUPLICATE,
                    "an earlier mount has this target",
                    out,
                );
            }
            Some(mount)
        })
        .collect()
}

/// What a container with an init has no place for: the init's own is taken.
pub(super) fn check_init(mounts: &[v1::Mount], field: &Field<'_>, out: &mut Violations) {
    let init = Path::new(wharf_init::PATH);
    for (n, mount) in mounts.iter().enumerate() {
        let target = Path::new(&mount.target);
        if target != Path::new("/") && init.starts_with(target) {
            let why = "covers the init, which spec.init asks for";
            field
                .at(n)
                .child("target")
                .reject(reason::CONFLICT, why, out);
        }
    }
}

fn mount(mount: v1::Mount, field: &Field<'_>, out: &mut Violations) -> Option<Mount> {
    let target = target(&mount.target, &field.child("target"), out);
    let source = match mount.source {
        None => {
            field.child("source").missing(out);
            None
        }
        Some(Source::Bind(bind)) => self::bind(&bind, &field.child("bind"), out),
        Some(Source::Tmpfs(tmpfs)) => Some(self::tmpfs(tmpfs, &field.child("tmpfs"), out)),
        Some(Source::Image(_)) => {
            field.child("image").unsupported(out);
            None
        }
    };
    Some(Mount {
        target: target?,
        source: source?,
        read_only: mount.read_only,
    })
}

fn target(target: &str, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    let target = path::absolute(target, field, out)?;
    if target == "/" {
        field.reject(reason::MALFORMED, "must not be the root", out);
        return None;
    }
    Some(target)
}

fn bind(bind: &v1::BindMount, field: &Field<'_>, out: &mut Violations) -> Option<MountSource> {
    let path = path::absolute(&bind.path, &field.child("path"), out);
    let propagation = field
        .child("propagation")
        .enumeration(bind.propagation, out)
        .map(propagation);
    Some(MountSource::Bind {
        path: path?,
        create: bind.create,
        propagation: propagation?,
    })
}

fn propagation(propagation: bind_mount::Propagation) -> Propagation {
    match propagation {
        bind_mount::Propagation::Unspecified | bind_mount::Propagation::Rprivate => {
            Propagation::Private
        }
        bind_mount::Propagation::Rslave => Propagation::Slave,
        bind_mount::Propagation::Rshared => Propagation::Shared,
    }
}

fn tmpfs(tmpfs: v1::TmpfsMount, field: &Field<'_>, out: &mut Violations) -> MountSource {
    let mode = tmpfs.mode.unwrap_or(DEFAULT_TMPFS_MODE);
    if mode > 0o7777 {
        field.child("mode").reject(
            reason::OUT_OF_RANGE,
            "must be permission bits, 0 to 07777",
            out,
        );
    }
    let size = resources::size(tmpfs.size_bytes, &field.child("size_bytes"), out);
    MountSource::Tmpfs {
        size_bytes: (size > 0).then_some(size),
        mode,
    }
}
