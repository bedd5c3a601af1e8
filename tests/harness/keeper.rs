//! The keeper of a scenario's server, which outlives it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{so, until};

/// How long one that keeps nothing may take to end.
const END: Duration = Duration::from_secs(60);

/// The keepers of servers below `directory`: one, unless something is wrong.
pub fn pids(directory: &Path) -> Vec<i32> {
    let needle = directory.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.contains("wharf-keeper") && command.contains(&needle)
        })
        .collect()
}

/// Sends a signal to the keeper.
pub fn signal(directory: &Path, signal: Signal) {
    for pid in pids(directory) {
        kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
    }
}

/// Ends the keeper, which goes only if it keeps nothing any more: so this fails if a stream is left.
pub async fn end(directory: &Path) {
    until("the keeper keeps nothing and ends", END, async || {
        signal(directory, Signal::TERM);
        let left = pids(directory);
        so(left.is_empty(), || format!("keepers {left:?}"))
    })
    .await;
}
