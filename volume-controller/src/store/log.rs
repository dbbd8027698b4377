//! The recent past, in memory. Revisions are dense, so the place of a change in
//! the log is its distance from the floor.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Change, LogLimits};

/// What one entry costs besides its body, roughly: change, object, key.
const OVERHEAD: usize = 256;

/// The changes after `floor`, oldest first, without a gap.
#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    floor: u64,
    /// The first revision of what was appended last.
    newest: u64,
    bytes: usize,
    limits: LogLimits,
}

#[derive(Debug)]
struct Entry {
    change: Arc<Change>,
    at: Instant,
}

impl Log {
    pub(crate) fn new(floor: u64, limits: LogLimits) -> Self {
        Self { entries: VecDeque::new(), floor, newest: u64::MAX, bytes: 0, limits }
    }

    /// The newest revision that is *not* in the log. A watch can start from here or later.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn limits(&self) -> &LogLimits {
        &self.limits
    }

    /// Says that what is appended from `revision` on becomes visible together. However much it is,
    /// it stays until there is more, or it is too old: else watches that have read everything
    /// before it would have lost it before they could.
    pub(crate) fn begin(&mut self, revision: u64) {
        self.newest = revision;
    }

    /// Appends the next change.
    pub(crate) fn push(&mut self, change: Arc<Change>, at: Instant) {
        debug_assert_eq!(change.revision, self.floor + self.entries.len() as u64 + 1);
        self.bytes += size(&change);
        self.entries.push_back(Entry { change, at });
    }

    /// Forgets what is beyond the limits; returns what was forgotten, for the
    /// caller to drop where nobody waits.
    pub(crate) fn trim(&mut self, now: Instant) -> Vec<Arc<Change>> {
        let mut gone = Vec::new();
        while let Some(oldest) = self.entries.front() {
            let is_small = self.entries.len() <= self.limits.changes && self.bytes <= self.limits.bytes;
            let is_kept = (is_small || oldest.change.revision >= self.newest)
                && now.saturating_duration_since(oldest.at) <= self.limits.age;
            if is_kept {
                break;
            }
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= size(&entry.change);
                self.floor = entry.change.revision;
                gone.push(entry.change);
            }
        }
        gone
    }

    /// The changes with a revision above `from`, or `None` when some of them are gone.
    pub(crate) fn after(&self, from: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let skip = usize::try_from(from.checked_sub(self.floor)?).unwrap_or(usize::MAX);
        Some(self.entries.range(skip.min(self.entries.len())..).map(|entry| &entry.change))
    }
}

fn size(change: &Change) -> usize {
    change.object.body.len() + OVERHEAD
}
