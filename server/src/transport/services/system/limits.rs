//! The limits that `GetCapabilities` publishes, by name. Names and meanings never change.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::limits as l;
use crate::transport::render::signed;

/// Every limit that a client can run into: bytes, counts, or seconds, as the name says.
pub(super) fn by_name() -> BTreeMap<String, i64> {
    let limits = sizes().into_iter().chain(counts()).chain(times());
    limits
        .map(|(name, value)| (name.to_owned(), signed(value)))
        .collect()
}

fn sizes() -> [(&'static str, u64); 28] {
    [
        ("max_log_entry_bytes", l::MAX_LOG_ENTRY_BYTES as u64),
        ("max_log_batch_bytes", l::MAX_LOG_BATCH_BYTES as u64),
        ("max_message_bytes", l::MAX_MESSAGE_BYTES as u64),
        ("max_header_list_bytes", l::MAX_HEADER_LIST_BYTES.into()),
        ("max_page_bytes", l::MAX_PAGE_BYTES as u64),
        ("max_name_bytes", l::MAX_NAME_BYTES as u64),
        ("max_hostname_bytes", l::MAX_HOSTNAME_BYTES as u64),
        ("max_path_bytes", l::MAX_PATH_BYTES as u64),
        ("max_user_bytes", l::MAX_USER_BYTES as u64),
        ("max_reference_bytes", l::MAX_REFERENCE_BYTES as u64),
        ("max_label_key_bytes", l::MAX_LABEL_KEY_BYTES as u64),
        ("max_label_value_bytes", l::MAX_LABEL_VALUE_BYTES as u64),
        ("max_labels_bytes", l::MAX_LABELS_BYTES as u64),
        ("max_env_bytes", l::MAX_ENV_BYTES as u64),
        ("max_args_bytes", l::MAX_ARGS_BYTES as u64),
        ("max_seccomp_bytes", l::MAX_SECCOMP_BYTES as u64),
        ("min_memory_bytes", l::MIN_MEMORY_BYTES),
        ("max_archive_bytes", l::MAX_ARCHIVE_BYTES),
        ("max_unpacked_bytes", l::MAX_UNPACKED_BYTES),
        ("max_archive_chunk_bytes", l::MAX_ARCHIVE_CHUNK as u64),
        (
            "max_archive_directory_bytes",
            l::MAX_ARCHIVE_DIRECTORY_BYTES as u64,
        ),
        ("max_attributes_bytes", l::MAX_ATTRIBUTES_BYTES as u64),
        ("max_stdio_chunk_bytes", l::MAX_STDIO_CHUNK as u64),
        ("max_replay_bytes", l::MAX_REPLAY_BYTES),
        ("max_sync_stdin_bytes", l::MAX_SYNC_STDIN_BYTES as u64),
        ("default_sync_output_bytes", l::DEFAULT_SYNC_OUTPUT_BYTES),
        ("max_sync_output_bytes", l::MAX_SYNC_OUTPUT_BYTES),
        ("exec_output_bytes", l::EXEC_OUTPUT_BYTES),
    ]
}

fn counts() -> [(&'static str, u64); 25] {
    [
        ("max_log_positions", l::MAX_LOG_POSITIONS as u64),
        ("max_concurrent_streams", l::MAX_CONCURRENT_STREAMS.into()),
        ("max_connections", l::MAX_CONNECTIONS as u64),
        ("default_page_size", l::DEFAULT_PAGE as u64),
        ("max_page_size", l::MAX_PAGE as u64),
        ("max_containers", l::MAX_CONTAINERS as u64),
        (
            "min_stats_interval_milliseconds",
            l::MIN_STATS_INTERVAL.subsec_millis().into(),
        ),
        ("max_file_calls", l::MAX_FILE_CALLS as u64),
        ("max_archive_depth", l::MAX_ARCHIVE_DEPTH as u64),
        ("max_labels", l::MAX_LABELS as u64),
        ("max_env", l::MAX_ENV as u64),
        ("max_mounts", l::MAX_MOUNTS as u64),
        ("max_groups", l::MAX_GROUPS as u64),
        ("max_export_images", l::MAX_EXPORT_IMAGES as u64),
        ("max_filter_values", l::MAX_FILTER_VALUES as u64),
        ("max_image_layers", l::MAX_LAYERS as u64),
        ("max_layer_entries", l::MAX_LAYER_ENTRIES),
        ("max_expansion", l::MAX_EXPANSION),
        ("max_request_id_length", wharf_api::token::MAX_LEN as u64),
        ("min_cpu_millicores", l::MIN_CPU_MILLICORES),
        ("default_pids_limit", l::DEFAULT_PIDS),
        ("runs_kept", l::RUNS_KEPT as u64),
        ("max_live_execs", l::MAX_LIVE_EXECS as u64),
        ("ended_execs_kept", l::ENDED_EXECS_KEPT as u64),
        ("idempotency_entries", l::IDEMPOTENCY_ENTRIES as u64),
    ]
}

fn times() -> [(&'static str, u64); 14] {
    let seconds = |time: Duration| time.as_secs();
    [
        ("disk_usage_timeout_seconds", seconds(l::DISK_USAGE_TIMEOUT)),
        ("log_idle_seconds", seconds(l::LOG_IDLE_INTERVAL)),
        ("default_stop_grace_seconds", seconds(l::DEFAULT_STOP_GRACE)),
        ("max_stop_grace_seconds", seconds(l::MAX_STOP_GRACE)),
        ("deleted_kept_seconds", seconds(l::DELETED_KEPT)),
        ("idempotency_kept_seconds", seconds(l::IDEMPOTENCY_KEPT)),
        ("exec_kept_seconds", seconds(l::EXEC_KEPT)),
        ("max_exec_timeout_seconds", seconds(l::MAX_EXEC_TIMEOUT)),
        (
            "default_stats_interval_seconds",
            seconds(l::DEFAULT_STATS_INTERVAL),
        ),
        ("drain_after_exit_seconds", seconds(l::DRAIN_AFTER_EXIT)),
        ("transfer_stall_seconds", seconds(l::TRANSFER_STALL)),
        ("reattach_grace_seconds", seconds(l::REATTACH_GRACE)),
        (
            "default_progress_interval_seconds",
            seconds(l::DEFAULT_PROGRESS_INTERVAL),
        ),
        (
            "min_progress_interval_seconds",
            seconds(l::MIN_PROGRESS_INTERVAL),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_name_of_its_own() {
        let all = sizes().len() + counts().len() + times().len();
        assert_eq!(by_name().len(), all);
        assert_eq!(by_name()["max_message_bytes"], 4 << 20);
    }
}
