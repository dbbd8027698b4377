//! Following the changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Change;
use super::memory::{Memory, Read, Subscription};

/// What a watch delivers.
#[derive(Debug, Clone)]
pub enum Next {
    /// The next change.
    Change(Arc<Change>),
    /// Nothing to tell: every change of the watched resources up to and with
    /// this revision has been delivered.
    Progress(u64),
}

/// A watch cannot start so far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("revision {from} is compacted; the oldest from which a watch can start is {oldest}: list again")]
pub struct Expired {
    /// What was asked for.
    pub from: u64,
    /// The oldest revision from which a watch can start.
    pub oldest: u64,
}

/// Why a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WatchError {
    /// It was read so slowly that changes which it had not seen are compacted.
    #[error("the watch was read too slowly, changes it has not seen are compacted: list again")]
    TooSlow,
    /// The store is closed, and everything before that has been delivered.
    #[error("the store is closed")]
    Closed,
}

impl WatchError {
    /// Whether a new list and watch may go on.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TooSlow)
    }
}

/// The changes of some resources after some revision, in order, each exactly once.
/// It holds no bodies of its own: the changes are shared with the store's log.
#[derive(Debug)]
pub struct Watch {
    memory: Arc<Memory>,
    subscription: Arc<Subscription>,
    revisions: watch::Receiver<u64>,
    ready: VecDeque<Arc<Change>>,
    /// Everything up to here has been taken from the log.
    position: u64,
    /// The last revision that the reader was told of.
    told: u64,
    every: Duration,
    due: Option<Instant>,
}

impl Watch {
    pub(crate) fn new(
        memory: Arc<Memory>,
        subscription: Arc<Subscription>,
        from: u64,
        every: Duration,
    ) -> Self {
        let revisions = memory.revisions();
        let ready = VecDeque::new();
        Self { memory, subscription, revisions, ready, position: from, told: from, every, due: None }
    }

    /// The next change, or word that there was none for a while. Waits as long as
    /// the store has nothing new. Cancel-safe: what was not returned is returned next time.
    ///
    /// # Errors
    /// [`WatchError`]; asked again, the same.
    pub async fn next(&mut self) -> Result<Next, WatchError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                self.told = change.revision;
                self.due = None;
                return Ok(Next::Change(change));
            }
            // A reader that is always behind must let others run, too.
            tokio::task::consume_budget().await;
            // Marked as seen before memory is read, so that no later one is missed below.
            self.revisions.borrow_and_update();
            match self.memory.read(&self.subscription) {
                Read::Gone => return Err(WatchError::TooSlow),
                Read::Changes { changes, through, is_all, is_closed } => {
                    // A watch from the future stays there until the present arrives.
                    self.position = self.position.max(through);
                    self.ready = changes.into();
                    if !self.ready.is_empty() || !is_all {
                        continue;
                    }
                    if is_closed {
                        return Err(WatchError::Closed);
                    }
                }
            }
            if self.position == self.told {
                self.due = None;
                tokio::select! {
                    () = self.subscription.woken.notified() => {}
                    // The sender is in `memory`, which lives as long as this watch.
                    _ = self.revisions.changed() => {}
                }
                continue;
            }
            let now = Instant::now();
            let due = *self.due.get_or_insert(now + self.every);
            if now >= due {
                self.told = self.position;
                self.due = None;
                return Ok(Next::Progress(self.position));
            }
            tokio::select! {
                () = self.subscription.woken.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }
}
