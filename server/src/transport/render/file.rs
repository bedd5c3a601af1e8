//! Paths of containers.

use wharf_api::v1;
use wharf_api::v1::path_stat::Kind;

use crate::files::{PathKind, PathStat};

/// What a path is.
pub(crate) fn stat(stat: PathStat) -> v1::PathStat {
    let kind = match stat.kind {
        PathKind::File => Kind::File,
        PathKind::Directory => Kind::Directory,
        PathKind::Symlink => Kind::Symlink,
        PathKind::Other => Kind::Other,
    };
    v1::PathStat {
        name: stat.name,
        kind: kind.into(),
        size_bytes: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mode: stat.mode,
        modify_time: Some(stat.modified.into()),
        link_target: stat.link_target,
        uid: stat.uid,
        gid: stat.gid,
    }
}
