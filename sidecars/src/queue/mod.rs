//! A keyed work queue: one worker a key at a time, exponential backoff a key, bounded
//! concurrency by the number of workers.
//!
//! Level-triggered: a key says only "look at this object again". A key that comes in
//! while it is being worked on runs once more afterwards; one that comes in during its
//! backoff runs at once (something changed, so the wait has lost its reason), but keeps
//! its count of failures.

mod backoff;
mod state;
mod workers;

use std::{
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

pub(crate) use backoff::Backoff;
use state::{State, Taken};
pub(crate) use workers::run_workers;

/// What became of one look at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// Failed: again after this key's backoff.
    Retry,
    /// Again after a time of its own, whatever its failures.
    After(Duration),
}

/// See the module's documentation.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    backoff: Backoff,
    panics: AtomicU64,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub(crate) fn new(backoff: Backoff) -> Self {
        let state = Mutex::new(State::default());
        Self { state, wake: Notify::new(), backoff, panics: AtomicU64::new(0) }
    }

    fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for a look at `key`, now.
    pub(crate) fn add(&self, key: K) {
        let wake = self.state.lock().add(key, Instant::now());
        if wake {
            self.wake.notify_one();
        }
    }

    /// The next key to work on; waits for one. The caller owes a [`Queue::finish`].
    pub(crate) async fn next(&self) -> K {
        loop {
            let notified = self.wake.notified();
            let taken = self.state.lock().take(Instant::now());
            match taken {
                Taken::Key { key, more } => {
                    // Keys whose time came together woke only this worker: pass it on.
                    if more {
                        self.wake.notify_one();
                    }
                    return key;
                }
                Taken::NothingUntil(Some(at)) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                Taken::NothingUntil(None) => notified.await,
            }
        }
    }

    /// Gives a key back with what became of it.
    pub(crate) fn finish(&self, key: K, outcome: Outcome) {
        let wake = self.state.lock().finish(key, outcome, &self.backoff, Instant::now());
        if wake {
            self.wake.notify_one();
        }
    }
}

/// What the metrics read from a queue, whatever its keys are.
pub(crate) trait Gauges: Send + Sync {
    /// How many keys wait to be worked on now (keys in backoff do not count).
    fn depth(&self) -> usize;
    /// For how long the oldest key has waited or been worked on, seconds; 0 when idle.
    fn oldest_age(&self) -> f64;
    /// How many looks at keys panicked.
    fn panics(&self) -> u64;
}

impl<K: Clone + Eq + Hash + Send> Gauges for Queue<K> {
    fn depth(&self) -> usize {
        self.state.lock().depth()
    }

    fn oldest_age(&self) -> f64 {
        self.state.lock().oldest_age(Instant::now()).as_secs_f64()
    }

    fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
