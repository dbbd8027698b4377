//! What all controllers share: a queue of keys, fed by the view's changes, worked
//! off by a bounded number of workers, with one worker a key and a growing pause
//! after a failure.
//!
//! A controller is level-triggered: it is handed a key, looks at the view and
//! does what the view calls for. A lost or repeated wake-up costs time only.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    metrics::{Metrics, QueueLabel},
    recorder::Recorder,
    view::{At, Inbox, Index, Mail, Touched, View},
};
use crate::{
    lifecycle,
    store::{CommitError, Key, Precondition, Store, Write},
};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a controller works with.
#[derive(Clone)]
pub(crate) struct Io {
    pub(crate) store: Store,
    pub(crate) index: Arc<Index>,
    pub(crate) recorder: Recorder,
}

/// What came of one look at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more until something changes.
    Settled,
    /// Something was written: look again as soon as the view shows it.
    Wrote,
    /// Somebody else was faster, or the database refused: look again after a pause.
    Again,
    /// Look again after this long even if nothing changes.
    After(Duration),
}

/// One controller.
pub(crate) trait Controller: Send + Sync + 'static {
    /// The name in logs and metrics.
    const NAME: &'static str;
    /// How many keys are worked on at once. 1 where the decisions on two keys
    /// could contradict each other.
    const WORKERS: usize;
    /// The keys to look at after a change.
    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>);
    /// The keys to look at when anything may have changed.
    fn all(view: &View) -> BTreeSet<Key>;
    /// Looks at one key and does what the view calls for.
    fn look(io: &Io, key: &Key) -> impl Future<Output = Outcome> + Send;
}

impl Io {
    /// The write that edits an object as it was when it was decided on; `None` when
    /// it has changed since, or is gone.
    pub(crate) fn edit(&self, at: &At, edit: impl FnOnce(&mut Value)) -> Option<Write> {
        let object = self.store.get(&at.key).filter(|object| object.revision == at.revision)?;
        let mut body: Value = object.decode().ok()?;
        edit(&mut body);
        Some(lifecycle::update(at.key.clone(), Precondition::Revision(at.revision), body))
    }

    /// Commits a transaction, and waits until the view has it. A missing write
    /// means that the decision is stale: nothing of it is written.
    pub(crate) async fn commit(&self, writes: Vec<Option<Write>>) -> Outcome {
        let Some(writes) = writes.into_iter().collect::<Option<Vec<Write>>>() else { return Outcome::Again };
        match self.store.commit(writes).await {
            Ok(committed) => {
                if let Some(last) = committed.last() {
                    self.index.wait_for(last.revision).await;
                }
                Outcome::Wrote
            }
            // The view is behind: the change that made this stale is on its way.
            Err(CommitError::Exists { .. } | CommitError::Missing { .. } | CommitError::Conflict { .. }) => {
                Outcome::Again
            }
            Err(error) => {
                tracing::error!(%error, "a controller's write failed");
                Outcome::Again
            }
        }
    }
}

/// Keys that wait, and how often each has failed.
#[derive(Default)]
struct Queue {
    ready: BTreeSet<Key>,
    waiting: BTreeMap<Key, Instant>,
    busy: BTreeSet<Key>,
    failures: BTreeMap<Key, u32>,
}

impl Queue {
    /// A key that becomes due earlier than it would have.
    fn wake(&mut self, key: Key) {
        self.waiting.remove(&key);
        self.ready.insert(key);
    }

    fn next(&mut self) -> Option<Key> {
        let key = self.ready.iter().find(|key| !self.busy.contains(*key))?.clone();
        self.ready.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: Key, outcome: Outcome, now: Instant) {
        self.busy.remove(&key);
        match outcome {
            Outcome::Settled => {
                self.failures.remove(&key);
            }
            Outcome::Wrote => {
                self.failures.remove(&key);
                self.ready.insert(key);
            }
            Outcome::After(pause) => {
                self.failures.remove(&key);
                self.waiting.entry(key).or_insert(now + pause);
            }
            Outcome::Again => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                let pause = FIRST_PAUSE.saturating_mul(1 << (*failures - 1).min(12)).min(LONGEST_PAUSE);
                self.waiting.entry(key).or_insert(now + pause);
            }
        }
    }

    fn due(&mut self, now: Instant) {
        let due: Vec<Key> =
            self.waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.wake(key);
        }
    }
}

/// Runs one controller until cancelled.
pub(crate) async fn run<C: Controller>(io: Io, metrics: Metrics, cancel: CancellationToken) -> Result<(), Error> {
    io.index.filled().await;
    let inbox: Arc<Inbox> = io.index.subscribe();
    let mut queue = Queue::default();
    let mut workers: JoinSet<(Key, Outcome)> = JoinSet::new();
    let label = QueueLabel { name: C::NAME.to_owned() };
    loop {
        while workers.len() < C::WORKERS
            && let Some(key) = queue.next()
        {
            let io = io.clone();
            workers.spawn(async move {
                let outcome = C::look(&io, &key).await;
                (key, outcome)
            });
        }
        let depth = queue.ready.len() + queue.waiting.len() + queue.busy.len();
        metrics.depth.get_or_create(&label).set(i64::try_from(depth).unwrap_or(i64::MAX));
        let soonest = queue.waiting.values().min().copied();
        tokio::select! {
            () = cancel.cancelled() => break,
            mail = inbox.take() => {
                let mut keys = BTreeSet::new();
                io.index.read(|view| match &mail {
                    Mail::Everything => keys = C::all(view),
                    Mail::Changes(changes) => changes.iter().for_each(|touched| C::wake(view, touched, &mut keys)),
                });
                keys.into_iter().for_each(|key| queue.wake(key));
            }
            Some(ended) = workers.join_next() => match ended {
                Ok((key, outcome)) => {
                    if outcome == Outcome::Again {
                        metrics.retries.get_or_create(&label).inc();
                    }
                    queue.done(key, outcome, Instant::now());
                }
                // What it worked on is not known any more: the restart looks at everything.
                Err(error) => return Err(Error::Crashed { controller: C::NAME, why: error.to_string() }),
            },
            () = sleep_until(soonest.unwrap_or_else(Instant::now)), if soonest.is_some() => {
                queue.due(Instant::now());
            }
        }
    }
    // Transactions under way end by themselves in the store; nobody needs their answer.
    workers.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pods", "a", name)
    }

    #[tokio::test]
    async fn one_worker_a_key_and_growing_pauses() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.wake(key("x"));
        queue.wake(key("x"));
        assert_eq!(queue.next(), Some(key("x")));
        queue.wake(key("x"));
        assert_eq!(queue.next(), None, "it is being worked on");
        queue.done(key("x"), Outcome::Again, now);
        assert_eq!(queue.next(), Some(key("x")), "it was woken meanwhile");
        queue.done(key("x"), Outcome::Again, now);
        let first = queue.waiting[&key("x")];
        queue.due(first);
        assert_eq!(queue.next(), Some(key("x")));
        queue.done(key("x"), Outcome::Again, first);
        assert!(queue.waiting[&key("x")] - first > first - now);
        queue.wake(key("x"));
        queue.next();
        queue.done(key("x"), Outcome::Settled, first);
        assert!(queue.failures.is_empty() && queue.busy.is_empty());
    }
}
