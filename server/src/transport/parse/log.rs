//! What is kept of a container's output.

use wharf_api::v1;

use super::{Field, reason, resources};
use crate::model::spec::Log;
use crate::transport::Violations;

const MIN_SEGMENT_BYTES: u64 = 64 << 10;
const MAX_SEGMENTS: u32 = 100;

/// Reads how a log is kept; what is 0 gets the server's default.
pub(super) fn log(log: Option<v1::LogSpec>, field: &Field<'_>, out: &mut Violations) -> Log {
    let log = log.unwrap_or_default();
    let default = Log::default();
    let (max_bytes, max_files) = (field.child("max_bytes"), field.child("max_files"));
    let bytes = resources::size(log.max_bytes, &max_bytes, out);
    if (1..MIN_SEGMENT_BYTES).contains(&bytes) {
        max_bytes.reject(reason::OUT_OF_RANGE, "must be 0 or at least 65536", out);
    }
    if log.max_files > MAX_SEGMENTS {
        max_files.reject(reason::OUT_OF_RANGE, "must be at most 100", out);
    }
    Log {
        disabled: log.disabled,
        segment_bytes: if bytes == 0 {
            default.segment_bytes
        } else {
            bytes
        },
        segments: if log.max_files == 0 {
            default.segments
        } else {
            log.max_files
        },
    }
}
