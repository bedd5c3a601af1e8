//! The requests of `FileService`. Their streams' first messages count as requests; the paths of their
//! fields begin with `start`.

use wharf_api::v1;

use super::{Field, name, path, reason};
use crate::files::{Owner, Unpack, WriteFile};
use crate::transport::Violations;

/// The largest value of permission bits.
const MAX_MODE: u32 = 0o7777;
/// The kernel takes the largest id for "unchanged".
const MAX_ID: u32 = u32::MAX - 1;
/// Filled in by the engine, which knows the container.
const OF_THE_CONTAINER: Owner = Owner { uid: 0, gid: 0 };

/// Reads the path of StatPath.
pub(crate) fn stat(request: v1::StatPathRequest, out: &mut Violations) -> Option<String> {
    path::absolute(&request.path, &Field::new("path"), out)
}

/// Reads the path of ReadArchive.
pub(crate) fn read_archive(
    request: v1::ReadArchiveRequest,
    out: &mut Violations,
) -> Option<String> {
    path::absolute(&request.path, &Field::new("path"), out)
}

/// Reads the path of ReadFile.
pub(crate) fn read_file(request: v1::ReadFileRequest, out: &mut Violations) -> Option<String> {
    path::absolute(&request.path, &Field::new("path"), out)
}

/// Reads how to unpack an archive.
pub(crate) fn write_archive(start: v1::WriteArchiveStart, out: &mut Violations) -> Option<Unpack> {
    let field = Field::new("start");
    let key = field.child("idempotency_key");
    name::idempotency_key_of(&start.idempotency_key, &key, out);
    Some(Unpack {
        path: path::absolute(&start.path, &field.child("path"), out)?,
        allow_kind_change: start.allow_kind_change,
        preserve_owners: start.preserve_owners,
        owner: OF_THE_CONTAINER,
    })
}

/// Reads which file to write.
pub(crate) fn write_file(start: v1::WriteFileStart, out: &mut Violations) -> Option<WriteFile> {
    let field = Field::new("start");
    let key = field.child("idempotency_key");
    name::idempotency_key_of(&start.idempotency_key, &key, out);
    for (value, most, name) in [
        (start.mode, MAX_MODE, "mode"),
        (start.uid, MAX_ID, "uid"),
        (start.gid, MAX_ID, "gid"),
    ] {
        if value.is_some_and(|value| value > most) {
            let problem = format!("must be at most {most}");
            field.child(name).reject(reason::OUT_OF_RANGE, problem, out);
        }
    }
    Some(WriteFile {
        path: path::absolute(&start.path, &field.child("path"), out)?,
        mode: start.mode,
        uid: start.uid,
        gid: start.gid,
        create_parents: start.create_parents,
        owner: OF_THE_CONTAINER,
    })
}
