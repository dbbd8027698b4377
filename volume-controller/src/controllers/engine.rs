//! What all controllers share: a queue of keys, fed by the view's changes, worked
//! off by a bounded number of workers, with one worker a key and a growing pause
//! after a failure.
//!
//! A controller is level-triggered: it is handed a key, looks at the view and
//! does what the view calls for. A lost or repeated wake-up costs time only.

use std::{collections::BTreeSet, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    metrics::{Metrics, QueueLabel},
    nodelifecycle::Pulses,
    queue::Queue,
    recorder::Recorder,
    view::{At, Inbox, Index, Mail, Touched, View},
};
use crate::{
    apiserver::apply,
    lifecycle,
    store::{CommitError, Guard, Key, Precondition, Store, Transaction, Write},
};

/// How often the age of the queue is measured while something is in line.
const MEASURE: Duration = Duration::from_secs(1);

/// What a controller works with.
#[derive(Clone)]
pub(crate) struct Io {
    pub(crate) store: Store,
    pub(crate) index: Arc<Index>,
    pub(crate) recorder: Recorder,
    /// The binder's.
    pub(crate) underway: Underway,
    /// The node lifecycle's.
    pub(crate) pulses: Pulses,
    pub(crate) metrics: Metrics,
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
        let before: Value = object.decode().ok()?;
        let mut body = before.clone();
        edit(&mut body);
        // Who applies later must be told that it would undo this.
        apply::track_server(&at.key.resource, &before, &mut body, Timestamp::now());
        Some(lifecycle::update(at.key.clone(), Precondition::Revision(at.revision), body))
    }

    /// Commits a transaction, and waits until the view has it. A missing write
    /// means that the decision is stale: nothing of it is written.
    pub(crate) async fn commit(&self, writes: Vec<Option<Write>>) -> Outcome {
        self.commit_guarded(&[], writes).await
    }

    /// As [`Io::commit`], if besides the objects of `unchanged` are as they were when it was decided.
    pub(crate) async fn commit_guarded(&self, unchanged: &[At], writes: Vec<Option<Write>>) -> Outcome {
        let guard =
            |at: &At| Guard { key: at.key.clone(), precondition: Precondition::Revision(at.revision) };
        self.commit_if(unchanged.iter().map(guard).collect(), writes).await
    }

    /// As [`Io::commit`], if the guards hold.
    pub(crate) async fn commit_if(&self, guards: Vec<Guard>, writes: Vec<Option<Write>>) -> Outcome {
        let Some(writes) = writes.into_iter().collect::<Option<Vec<Write>>>() else { return Outcome::Again };
        match self.store.commit(Transaction { guards, ..writes.into() }).await {
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
            // Nobody minds: the controllers are about to stop.
            Err(CommitError::Deposed) => Outcome::Again,
            Err(error) => {
                tracing::error!(%error, "a controller's write failed");
                Outcome::Again
            }
        }
    }
}

/// Objects that transactions under way are about to change. Who chooses among
/// several passes over them: else many workers choose the same best one, and all but one
/// of them in vain.
#[derive(Clone, Default)]
pub(crate) struct Underway(Arc<Mutex<BTreeSet<Key>>>);

/// Keeps objects marked until the view shows what became of them, or the work is dropped.
pub(crate) struct Marked {
    keys: Vec<Key>,
    all: Underway,
}

impl Underway {
    /// Chooses, and marks what was chosen, in one step.
    pub(crate) fn choose<T>(&self, choose: impl FnOnce(&BTreeSet<Key>) -> (T, Vec<Key>)) -> (T, Marked) {
        let mut all = self.0.lock();
        let (chosen, keys) = choose(&all);
        all.extend(keys.iter().cloned());
        (chosen, Marked { keys, all: self.clone() })
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        for key in &self.keys {
            all.remove(key);
        }
    }
}

/// The keys of one controller and those who look at them, measured.
pub(crate) struct Work {
    name: &'static str,
    queue: Queue,
    workers: JoinSet<(Key, Outcome)>,
    label: QueueLabel,
    metrics: Metrics,
}

impl Work {
    pub(crate) fn new(name: &'static str, metrics: Metrics) -> Self {
        let label = QueueLabel { name: name.to_owned() };
        Self { name, queue: Queue::default(), workers: JoinSet::new(), label, metrics }
    }

    pub(crate) fn wake(&mut self, keys: impl IntoIterator<Item = Key>) {
        let now = Instant::now();
        keys.into_iter().for_each(|key| self.queue.wake(key, now));
    }

    /// Gives keys in line to workers, as long as there are fewer of these than `limit`.
    pub(crate) fn start<F>(&mut self, limit: usize, look: impl Fn(Key) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        while self.workers.len() < limit
            && let Some(key) = self.queue.next()
        {
            let (name, looking) = (self.name, look(key.clone()));
            self.workers.spawn(async move {
                // One object that a decision trips over keeps no other from its turn.
                let outcome = AssertUnwindSafe(looking).catch_unwind().await;
                let outcome = outcome.unwrap_or_else(|_| {
                    tracing::error!(controller = name, %key, "looking at this key panicked");
                    Outcome::Again
                });
                (key, outcome)
            });
        }
    }

    /// Waits until a worker has ended or a key's time has come. Nothing is lost when this is dropped.
    pub(crate) async fn step(&mut self) -> Result<(), Error> {
        let soonest = self.measure();
        let due = async {
            match soonest {
                Some(soonest) => sleep_until(soonest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.workers.join_next() => match ended {
                Ok((key, outcome)) => {
                    if outcome == Outcome::Again {
                        self.metrics.retries.get_or_create(&self.label).inc();
                    }
                    self.queue.done(key, outcome, Instant::now());
                    Ok(())
                }
                // What it worked on is not known any more: the restart looks at everything.
                Err(error) => Err(Error::Crashed { controller: self.name, why: error.to_string() }),
            },
            () = due => {
                self.queue.due(Instant::now());
                Ok(())
            }
        }
    }

    /// Tells how it stands; answers when to look next.
    fn measure(&self) -> Option<Instant> {
        let now = Instant::now();
        let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
        self.metrics.depth.get_or_create(&self.label).set(depth);
        self.metrics.oldest_age.get_or_create(&self.label).set(self.queue.oldest_age(now).as_secs_f64());
        let measure = self.queue.has_line().then(|| now + MEASURE);
        [self.queue.soonest(), measure].into_iter().flatten().min()
    }

    /// Transactions under way end by themselves in the store; nobody needs their answer.
    pub(crate) async fn end(mut self) {
        self.workers.shutdown().await;
    }
}

/// Runs one controller until cancelled.
pub(crate) async fn run<C: Controller>(
    io: Io,
    metrics: Metrics,
    cancel: CancellationToken,
) -> Result<(), Error> {
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = io.index.filled() => {}
    }
    let inbox: Arc<Inbox> = io.index.subscribe();
    let mut work = Work::new(C::NAME, metrics);
    loop {
        work.start(C::WORKERS, |key| {
            let io = io.clone();
            async move { C::look(&io, &key).await }
        });
        tokio::select! {
            () = cancel.cancelled() => break,
            mail = inbox.take() => {
                let mut keys = BTreeSet::new();
                io.index.read(|view| match &mail {
                    Mail::Everything => keys = C::all(view),
                    Mail::Changes(changes) => changes.iter().for_each(|touched| C::wake(view, touched, &mut keys)),
                });
                work.wake(keys);
            }
            stepped = work.step() => stepped?,
        }
    }
    work.end().await;
    Ok(())
}
