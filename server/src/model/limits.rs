//! Every limit and default of the server, in one place. `GetCapabilities` publishes them by name.

use std::time::Duration;

/// Largest gRPC message, both ways. gRPC clients refuse larger ones by default.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Largest list of request headers of one call.
pub const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Streams open at once on one connection.
pub const MAX_CONCURRENT_STREAMS: u32 = 1_024;
/// Flow-control window of one stream: what a client may send unread.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Flow-control window of one connection; far above the stream's, so that one stalled upload does
/// not block its connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Connections open at once on one listener.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Longest a connection may take to its HTTP/2 preface. What comes after it may take any time: clients
/// connect early and call late.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Default and largest number of entries of a page.
pub const DEFAULT_PAGE: usize = 100;
/// See [`DEFAULT_PAGE`].
pub const MAX_PAGE: usize = 1_000;
/// A page ends here, too: it must fit a message with room to spare.
pub const MAX_PAGE_BYTES: usize = 2 << 20;

/// Containers of one server: each costs an actor, a record and a shim.
pub const MAX_CONTAINERS: usize = 10_000;
/// Longest container name.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest host name inside, as the kernel allows.
pub const MAX_HOSTNAME_BYTES: usize = 64;
/// Longest path, as the kernel allows.
pub const MAX_PATH_BYTES: usize = 4_096;
/// Longest name of a user or group, alone or both together.
pub const MAX_USER_BYTES: usize = 256;
/// Longest image reference.
pub const MAX_REFERENCE_BYTES: usize = 512;

/// Labels of one object: every event carries them.
pub const MAX_LABELS: usize = 128;
/// Longest label key.
pub const MAX_LABEL_KEY_BYTES: usize = 256;
/// Longest label value.
pub const MAX_LABEL_VALUE_BYTES: usize = 4 << 10;
/// All labels (or annotations) together.
pub const MAX_LABELS_BYTES: usize = 64 << 10;

/// Environment entries.
pub const MAX_ENV: usize = 1_024;
/// Environment, all together.
pub const MAX_ENV_BYTES: usize = 256 << 10;
/// Arguments, all together.
pub const MAX_ARGS_BYTES: usize = 256 << 10;
/// Mounts of one container.
pub const MAX_MOUNTS: usize = 256;
/// Supplemental groups, as many as RPC-based file systems and most tools handle.
pub const MAX_GROUPS: usize = 32;
/// An OCI seccomp profile in JSON.
pub const MAX_SECCOMP_BYTES: usize = 256 << 10;
/// Values of one repeated filter field.
pub const MAX_FILTER_VALUES: usize = 1_000;

/// Smallest memory limit: below it the runtime's own start-up is killed.
pub const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// Smallest CPU limit: the kernel's smallest quota is 1 ms in 100 ms.
pub const MIN_CPU_MILLICORES: u64 = 10;
/// Default process limit of a container.
pub const DEFAULT_PIDS: u64 = 4_096;
/// Default size of `/dev/shm`, as docker's.
pub const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// How long after its stop signal a container is killed, by default.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
/// Longest grace period that can be asked for.
pub const MAX_STOP_GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long a killed container may take to be gone.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs of a container whose ends stay readable.
pub const RUNS_KEPT: usize = 100;
/// How long a deleted container's last exit stays readable.
pub const DELETED_KEPT: Duration = Duration::from_secs(600);
/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Idempotency keys remembered at most; the oldest go first.
pub const IDEMPOTENCY_ENTRIES: usize = 10_000;

/// Silence after which a watch says that it is alive.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest interval that can be asked for.
pub const MIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Size of the journal beyond which the oldest events go.
pub const JOURNAL_BYTES: u64 = 64 << 20;
/// Age beyond which events go.
pub const JOURNAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Observed changes reach the disk within this time.
pub const SYNC_DELAY: Duration = Duration::from_millis(50);

/// Commands waiting for one container's actor: beyond it callers wait in line.
pub const ACTOR_QUEUE: usize = 64;
/// How long streams may take to end once the server drains, by default.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// When to try again after the backend could not be reached.
pub const BACKEND_RETRY: Duration = Duration::from_secs(1);
/// When to try again after a conflicting operation.
pub const CONFLICT_RETRY: Duration = Duration::from_millis(100);

/// Execs of one container that have not ended, created ones included.
pub const MAX_LIVE_EXECS: usize = 1_024;
/// Ended execs of one container that stay readable; the oldest go first.
pub const ENDED_EXECS_KEPT: usize = 1_000;
/// How long an ended exec stays readable, and how long one that was never started waits for its start.
pub const EXEC_KEPT: Duration = Duration::from_secs(600);
/// How often it is looked for execs whose time is over.
pub const EXEC_SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time limit of an exec.
pub const MAX_EXEC_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Largest piece of input or output in one message.
pub const MAX_STDIO_CHUNK: usize = 64 << 10;
/// Largest stretch of recent output that can be replayed, for each stream.
pub const MAX_REPLAY_BYTES: u64 = 1 << 20;
/// Largest input of an `ExecSync`.
pub const MAX_SYNC_STDIN_BYTES: usize = 1 << 20;
/// What `ExecSync` returns of each stream, by default.
pub const DEFAULT_SYNC_OUTPUT_BYTES: u64 = 64 << 10;
/// See [`DEFAULT_SYNC_OUTPUT_BYTES`].
pub const MAX_SYNC_OUTPUT_BYTES: u64 = 1 << 20;
/// Output of an exec that is kept for its readers, in segments of [`EXEC_SEGMENT_BYTES`].
pub const EXEC_OUTPUT_BYTES: u64 = 8 << 20;
/// See [`EXEC_OUTPUT_BYTES`].
pub const EXEC_SEGMENT_BYTES: u64 = 1 << 20;
/// How far a reader that asked for it may fall behind before the process waits for it, at most: half of
/// what is surely kept, if that is less, so that nothing it has not read is dropped.
pub const BLOCK_WINDOW_BYTES: u64 = 4 << 20;
/// A segment of a container's log, by default.
pub const LOG_SEGMENT_BYTES: u64 = 20 << 20;
/// Segments of a container's log, by default.
pub const LOG_SEGMENTS: u32 = 5;
/// Largest entry of a log: longer lines are split.
pub const MAX_LOG_ENTRY_BYTES: usize = 16 << 10;
/// Entries of one message of a log, with [`LOG_ENTRY_OVERHEAD_BYTES`] for each.
pub const MAX_LOG_BATCH_BYTES: usize = 256 << 10;
/// What an entry takes in a message besides its bytes: time, stream, lengths.
pub const LOG_ENTRY_OVERHEAD_BYTES: usize = 32;
/// Resume points of one `FollowLogs`.
pub const MAX_LOG_POSITIONS: usize = 1_000;
/// Logs that one `FollowLogs` keeps open; if it follows more, each is opened when it is read.
pub const MAX_OPEN_LOGS: usize = 256;
/// Silence after which a log that is followed says that it is alive.
pub const LOG_IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// How far apart rounds of stats begin, by default.
pub const DEFAULT_STATS_INTERVAL: Duration = Duration::from_secs(1);
/// See [`DEFAULT_STATS_INTERVAL`]. Below it, most of what is seen is the reading.
pub const MIN_STATS_INTERVAL: Duration = Duration::from_millis(100);
/// How long output is read after a process's end, if somebody else still holds its pipes.
pub const DRAIN_AFTER_EXIT: Duration = Duration::from_secs(5);
/// How long after a restart of the server a stream that it cut may be taken up again before the caller
/// counts as gone.
pub const REATTACH_GRACE: Duration = Duration::from_secs(30);

/// Largest archive that can be imported.
pub const MAX_ARCHIVE_BYTES: u64 = 64 << 30;
/// Largest tar of a layer, and largest tars of all layers of an image together.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 30;
/// What may come of any compressed stream; beyond it, [`MAX_EXPANSION`] bytes for each.
pub const MAX_EXPANSION_FREE_BYTES: u64 = 4 << 30;
/// How many times its size a compressed stream may have plain. Content reaches a tenth of it; zeros, and what is made to
/// exhaust a disk, 1,000 with gzip and far more with zstd.
pub const MAX_EXPANSION: u64 = 200;
/// Entries of one layer.
pub const MAX_LAYER_ENTRIES: u64 = 8_000_000;
/// Names that are remembered of a layer's directories while it is unpacked. Each counts for its bytes and
/// [`ARCHIVE_NAME_OVERHEAD_BYTES`].
pub const MAX_LAYER_DIRECTORY_BYTES: usize = 256 << 20;
/// Warnings of one answer.
pub const MAX_REMARKS: usize = 32;
/// Images of one archive that is exported.
pub const MAX_EXPORT_IMAGES: usize = 100;
/// Largest piece of an archive or a file in one message.
pub const MAX_ARCHIVE_CHUNK: usize = 256 << 10;
/// Directories within each other that are archived or removed: each keeps a descriptor open meanwhile.
pub const MAX_ARCHIVE_DEPTH: usize = 256;
/// Names that are remembered of files with several, while they are archived; beyond it each name is a file.
/// Each counts for its bytes and [`ARCHIVE_NAME_OVERHEAD_BYTES`].
pub const MAX_ARCHIVE_LINK_BYTES: usize = 16 << 20;
/// Names that are remembered of directories while an archive is unpacked, to set their times at its end.
/// Each counts for its bytes and [`ARCHIVE_NAME_OVERHEAD_BYTES`].
pub const MAX_ARCHIVE_DIRECTORY_BYTES: usize = 32 << 20;
/// What a name that is remembered takes besides its bytes.
pub const ARCHIVE_NAME_OVERHEAD_BYTES: usize = 64;
/// Extended attributes of one file that is archived, names and values: with long names beside them they fit
/// into what is read of one entry, 1 MiB.
pub const MAX_ATTRIBUTES_BYTES: usize = 768 << 10;
/// Calls that work on files of containers at a time: each needs a thread. The others wait in line.
pub const MAX_FILE_CALLS: usize = 64;
/// How long the client of a transfer may neither take nor send anything while others wait in line.
pub const TRANSFER_STALL: Duration = Duration::from_secs(30);
/// Largest image config, manifest or index.
pub const MAX_CONFIG_BYTES: usize = 3 << 20;
/// Layers of one image, as overlayfs with containerd takes them.
pub const MAX_LAYERS: usize = 127;
/// First pause before what failed is tried again; it doubles up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
/// See [`RETRY_FIRST`].
pub const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long what is on disk is measured for who asks.
pub const DISK_USAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often leftovers and what has expired are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Silence on a connection after which the server asks whether the client is still there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the client may take to answer that.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that a client reset before the server took them up; beyond it the connection ends, so that
/// resets cost the client more than the server (CVE-2023-44487).
pub const MAX_PENDING_RESETS: usize = 256;
/// Streams of one connection that the server reset for errors; beyond it the connection ends.
pub const MAX_ERROR_RESETS: usize = 1_024;
/// What is buffered of one answer for a client that does not read.
pub const MAX_SEND_BUFFER_BYTES: usize = 256 << 10;

/// How often a pull or push tells where it stands, by default.
pub const TRANSFER_NEWS: Duration = Duration::from_millis(250);
/// The most often that it can be asked to.
pub const SHORTEST_TRANSFER_NEWS: Duration = Duration::from_millis(50);
/// The least often.
pub const LONGEST_TRANSFER_NEWS: Duration = Duration::from_secs(3_600);
/// Longest user name, password or token for a registry.
pub const MAX_SECRET_BYTES: usize = 16 << 10;
/// How long connecting to a registry may take.
pub const REGISTRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may take to begin its answer.
pub const REGISTRY_RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transfer may be slower than [`REGISTRY_SLOWEST_BYTES`] a second, by default.
pub const REGISTRY_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// See [`REGISTRY_STALL_TIMEOUT`].
pub const REGISTRY_SLOWEST_BYTES: u64 = 1 << 10;
/// How often something that a registry may do better the next time is tried. An attempt that has moved content does
/// not count.
pub const REGISTRY_ATTEMPTS: u32 = 5;
/// How long is waited before the second attempt; twice as long before each further one.
pub const REGISTRY_FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest that a registry may ask to wait, for its wish to be followed.
pub const REGISTRY_LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Pulls that take content in at once; further ones wait. Each holds threads of the 512 that tokio has for what blocks:
/// three, and two for each layer that moves.
pub const MAX_PULLS: usize = 32;
/// Layers of one pull (or push) that move at once, as docker has it.
pub const REGISTRY_TRANSFERS: usize = 3;
/// How long what a pull has left is kept, for the next one to go on with.
pub const STAGED_BLOB_AGE: Duration = Duration::from_secs(3_600);
