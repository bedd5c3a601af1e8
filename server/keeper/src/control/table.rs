//! What is kept: the streams by name and by key.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use wharf_keeper::protocol::{Answer, Growth, StreamState};
use wharf_keeper::segment::Limits;

use super::Process;
use crate::link::{Finished, Key, Progress};

/// Names a connection; never used twice in a process.
pub(crate) type ConnectionId = u64;

/// Who waits for an answer: the connection and the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    pub(crate) request: u64,
}

/// Where a stream is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The drain thread has not said yet whether it can be opened.
    Opening(Waiter),
    Open,
    /// The drain thread has not let go of it yet.
    Closing(Vec<Waiter>),
}

/// How far its end is.
#[derive(Debug)]
pub(crate) enum Finish {
    NotAsked,
    Asked(Vec<Waiter>),
    Done(Finished),
}

/// One stream, as the control thread has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stream: String,
    pub(crate) directory: PathBuf,
    pub(crate) run: u64,
    pub(crate) limits: Limits,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stdin: Option<OwnedFd>,
    /// The master of the process's terminal.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) process: Option<Process>,
    pub(crate) phase: Phase,
    pub(crate) finish: Finish,
    /// Whose window it is.
    pub(crate) window: Option<ConnectionId>,
}

impl Entry {
    pub(crate) fn state(&self) -> StreamState {
        StreamState {
            stream: self.stream.clone(),
            directory: self.directory.clone(),
            run: self.run,
            positions: self.progress.positions(),
            outputs_open: self.progress.outputs_open(),
            stdin_open: self.stdin.is_some(),
            finished: matches!(self.finish, Finish::Done(_)),
            process: self.process.as_ref().map(Process::state),
        }
    }

    pub(crate) fn growth(&self) -> Growth {
        // First: whoever sees this count finds at least what it stands for.
        let entries = self.progress.entries();
        let positions = self.progress.positions();
        Growth {
            stream: self.stream.clone(),
            stdout: positions.stdout,
            stderr: positions.stderr,
            entries,
            ended: positions.ended,
        }
    }

    /// The answer to `Finish`; an end that could not be written may have been meanwhile.
    pub(crate) fn finished(&self, finished: &Finished) -> Answer {
        let now = self.progress.positions();
        Answer::Finished {
            positions: now,
            truncated: finished.truncated,
            recorded: finished.recorded || now.ended.is_some(),
        }
    }
}

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Table {
    keys: BTreeMap<String, Key>,
    entries: HashMap<Key, Entry>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let key = entry.progress.key;
        self.keys.insert(entry.stream.clone(), key);
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.keys.remove(&entry.stream);
        Some(entry)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(&key)
    }

    /// In whatever phase.
    pub(crate) fn named(&mut self, stream: &str) -> Option<&mut Entry> {
        self.entries.get_mut(self.keys.get(stream)?)
    }

    /// Only if it is open.
    pub(crate) fn open(&mut self, stream: &str) -> Option<&mut Entry> {
        self.named(stream)
            .filter(|entry| matches!(entry.phase, Phase::Open))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    /// In the order of names, behind this one.
    pub(crate) fn after(&self, after: Option<&str>) -> impl Iterator<Item = &Entry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .filter_map(|(_, key)| self.entries.get(key))
    }
}
