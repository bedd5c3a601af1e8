//! What the store did, in numbers: for metrics, and for tests of what a change may cost.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the store did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that were committed.
    pub transactions: u64,
    /// Commits that they shared.
    pub commits: u64,
    /// Commits among them that SQLite synced.
    pub synced_commits: u64,
    /// Syncs of what had only been written.
    pub delayed_syncs: u64,
}

/// The counters. Only the writer counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    transactions: AtomicU64,
    commits: AtomicU64,
    synced_commits: AtomicU64,
    delayed_syncs: AtomicU64,
}

impl Counters {
    /// A commit of some transactions was made.
    pub(super) fn committed(&self, transactions: usize, synced: Sync) {
        self.transactions
            .fetch_add(transactions as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        if synced == Sync::Now {
            self.synced_commits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A delayed sync was made.
    pub(super) fn synced(&self) {
        self.delayed_syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted.
    pub(super) fn read(&self) -> Counts {
        Counts {
            transactions: self.transactions.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            synced_commits: self.synced_commits.load(Ordering::Relaxed),
            delayed_syncs: self.delayed_syncs.load(Ordering::Relaxed),
        }
    }
}

/// When a commit goes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// With the commit.
    Now,
    /// Soon after.
    Later,
}
