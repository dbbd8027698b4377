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
        Self { entries: VecDeque::new(), floor, bytes: 0, limits }
    }

    /// The newest revision that is *not* in the log. A watch can start from here or later.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn limits(&self) -> &LogLimits {
        &self.limits
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
            let is_kept = self.entries.len() <= self.limits.changes
                && self.bytes <= self.limits.bytes
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
