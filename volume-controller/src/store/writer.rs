//! The one writer: takes what waits in the queue, commits it as one SQL
//! transaction, makes it visible, wakes the watches and then answers.
//!
//! A crash before COMMIT leaves nothing of a batch, a crash after it everything;
//! nobody has been answered in either case, so nothing acknowledged is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::dialect::{ChangeRow, CommitFailure, Dialect, DialectError};
use super::lock::ProcessLock;
use super::memory::Memory;
use super::metrics::ResourceLabel;
use super::plan::Plan;
use super::{BatchLimits, Change, CommitError, Committed, Metrics, Transaction, link};

/// One transaction and who waits for it.
pub(crate) struct Request {
    pub(crate) transaction: Transaction,
    pub(crate) answer: oneshot::Sender<Result<Vec<Committed>, CommitError>>,
}

/// How often the writer looks after the log and the database when nothing is written.
const TICK: Duration = Duration::from_secs(5);
/// Revisions that one transaction of the compaction covers. Between two of them waiting writes are served.
const COMPACT_STEP: u64 = 512;
/// Writes do not wait longer than about this for a round of compaction.
const COMPACT_DEADLINE: Duration = Duration::from_millis(20);
/// Pauses between the attempts to learn what became of a failed commit, while its callers wait.
const SETTLE_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// A batch above this is worth a log line.
const SLOW: Duration = Duration::from_secs(1);

/// The writer's task.
pub(crate) struct Writer {
    pub(crate) dialect: Box<dyn Dialect>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: BatchLimits,
    pub(crate) queue: mpsc::Receiver<Request>,
    /// Taken from the queue, not yet begun.
    pub(crate) waiting: VecDeque<Request>,
    /// Cancelled to end the task, once the queue is empty.
    pub(crate) closing: CancellationToken,
    /// Set to true at the very end, when the file is closed and its lock free.
    pub(crate) closed: watch::Sender<bool>,
    pub(crate) lock: ProcessLock,
    /// The log is compacted on disk up to here.
    pub(crate) compacted: u64,
    /// A commit of which nobody knows whether it happened. While there is one, nothing is written.
    pub(crate) unsettled: Option<Unsettled>,
}

/// What a commit would have changed.
pub(crate) struct Unsettled {
    changes: Vec<Arc<Change>>,
    error: String,
}

/// What became of a batch.
enum Outcome {
    Done,
    /// Nothing was written.
    Refused(String),
    Unknown(String),
}

impl Writer {
    /// Runs until the store is closed or nobody has it any more.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.closing.clone();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                request = self.queue.recv() => {
                    let Some(request) = request else { break };
                    self.serve(request).await;
                    self.housekeep(false).await;
                }
                _ = tick.tick() => {
                    self.memory.trim();
                    self.housekeep(true).await;
                }
            }
        }
        // What was accepted into the queue is still written.
        self.queue.close();
        while let Some(request) = self.queue.recv().await {
            self.serve(request).await;
        }
        self.dialect.close().await;
        self.memory.close();
        drop(self.lock);
        self.closed.send_replace(true);
    }

    /// Commits one request, together with all others that wait as far as the limits allow.
    async fn serve(&mut self, first: Request) {
        let mut writes = first.transaction.writes.len();
        self.waiting.push_back(first);
        while writes < self.limits.writes {
            let Ok(request) = self.queue.try_recv() else { break };
            writes += request.transaction.writes.len();
            self.waiting.push_back(request);
        }
        while !self.waiting.is_empty() {
            self.serve_waiting().await;
        }
    }

    /// Commits what waits, or as much of it as goes into one SQL transaction.
    async fn serve_waiting(&mut self) {
        let started = Instant::now();
        let (answers, outcome) = self.commit(started).await;
        if let Outcome::Refused(error) | Outcome::Unknown(error) = &outcome {
            self.metrics.failures.inc();
            tracing::error!(%error, "a batch of writes failed");
        }
        // An answer that nobody waits for any more is dropped: the write stands.
        for (answer, result) in answers {
            let _ = answer.send(match &outcome {
                Outcome::Done => result,
                Outcome::Refused(error) => Err(CommitError::Database(error.clone())),
                // What was refused would have been refused because of writes that may not have happened.
                Outcome::Unknown(error) if result.is_ok() => Err(CommitError::Unknown(error.clone())),
                Outcome::Unknown(error) => Err(CommitError::Database(error.clone())),
            });
        }
    }

    async fn commit(&mut self, started: Instant) -> (Vec<Answer>, Outcome) {
        if let Err(error) = self.settle().await {
            return (self.refuse_waiting(), Outcome::Refused(error));
        }
        let mut begun = self.dialect.begin(self.memory.revision()).await;
        if begun.is_err() {
            // The connection may have been the only thing that was wrong.
            begun = self.dialect.begin(self.memory.revision()).await;
        }
        if let Err(error) = begun.map_err(|error| error.to_string()).and_then(|rows| self.learn(rows)) {
            let _ = self.dialect.rollback().await;
            return (self.refuse_waiting(), Outcome::Refused(error));
        }
        let memory = self.memory.clone();
        let mut plan = Plan::new(memory.revision(), |key| memory.get(key));
        let mut answers: Vec<Answer> = Vec::with_capacity(self.waiting.len());
        while plan.bytes() < self.limits.bytes
            && let Some(request) = self.waiting.pop_front()
        {
            answers.push((request.answer, plan.admit(request.transaction)));
        }
        let changes = plan.into_changes();
        if changes.is_empty() {
            if let Err(error) = self.dialect.rollback().await {
                tracing::debug!(%error, "ending an empty transaction");
            }
            return (answers, Outcome::Done);
        }
        match self.dialect.commit(&changes).await {
            Ok(()) => {}
            Err(CommitFailure::Refused(error)) => return (answers, Outcome::Refused(error.to_string())),
            Err(CommitFailure::Unknown(error)) => {
                let error = error.to_string();
                self.unsettled = Some(Unsettled { changes, error: error.clone() });
                return (answers, self.settle_patiently(error).await);
            }
        }
        self.observe(started.elapsed(), &changes);
        self.publish(&changes);
        (answers, Outcome::Done)
    }

    /// The answers to all that wait, when none of it can be begun; the results are not sent as they are.
    fn refuse_waiting(&mut self) -> Vec<Answer> {
        self.waiting.drain(..).map(|request| (request.answer, Ok(Vec::new()))).collect()
    }

    /// Makes visible what others have committed.
    fn learn(&mut self, rows: Vec<ChangeRow>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let changes = link::foreign(rows, |key| self.memory.get(key))?;
        self.publish(&changes);
        Ok(())
    }

    /// Learns what became of a commit that failed, while its callers wait.
    async fn settle_patiently(&mut self, error: String) -> Outcome {
        let base = self.memory.revision();
        for pause in SETTLE_PAUSES {
            if self.settle().await.is_ok() {
                let happened = self.memory.revision() != base;
                return if happened { Outcome::Done } else { Outcome::Refused(error) };
            }
            sleep(pause).await;
        }
        Outcome::Unknown(error)
    }

    /// Learns what became of a commit that failed, if there is one. As long as that
    /// is not known nothing can be written: its revisions may or may not be taken.
    async fn settle(&mut self) -> Result<(), String> {
        let Some(unsettled) = &self.unsettled else { return Ok(()) };
        let base = self.memory.revision();
        let last = unsettled.changes.last().map_or(base, |change| change.revision);
        let unknown = |why: &dyn std::fmt::Display| {
            format!("what became of an earlier write is not known ({}): {why}", unsettled.error)
        };
        let found = self.dialect.settle(base).await.map_err(|error| unknown(&error))?;
        if found != base && found != last {
            return Err(unknown(&format_args!("the counter is at {found}, neither {base} nor {last}")));
        }
        if let Some(unsettled) = self.unsettled.take()
            && found != base
        {
            self.publish(&unsettled.changes);
        }
        tracing::info!(revision = found, "learned what became of a failed commit");
        Ok(())
    }

    fn publish(&self, changes: &[Arc<Change>]) {
        self.memory.publish(changes);
        self.tell();
    }

    fn observe(&self, elapsed: Duration, changes: &[Arc<Change>]) {
        self.metrics.commit_seconds.observe(elapsed.as_secs_f64());
        self.metrics.batch_writes.observe(u32::try_from(changes.len()).unwrap_or(u32::MAX).into());
        self.metrics.batches.inc();
        if elapsed > SLOW {
            tracing::warn!(?elapsed, writes = changes.len(), "the database took long to commit");
        }
    }

    /// Brings the gauges up to date.
    pub(crate) fn tell(&self) {
        self.metrics.revision.set(gauge(self.memory.revision()));
        self.metrics.compacted.set(gauge(self.compacted));
        for (resource, count) in self.memory.counts() {
            let label = ResourceLabel { resource: resource.to_string() };
            self.metrics.objects.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Compaction and the database's own needs. A failure only delays them: both
    /// are tried again, and a full disk must not make reads or later writes fail.
    async fn housekeep(&mut self, is_idle: bool) {
        if self.unsettled.is_some() {
            return;
        }
        let result = self.try_housekeep(is_idle).await;
        if let Err(error) = result {
            tracing::warn!(%error, "the store's housekeeping failed and will be tried again");
        }
    }

    async fn try_housekeep(&mut self, is_idle: bool) -> Result<(), DialectError> {
        let started = Instant::now();
        let floor = self.memory.floor();
        // Small remainders wait for the tick, so that a write does not always bring a compaction along.
        while self.compacted < floor && (is_idle || floor - self.compacted >= COMPACT_STEP) {
            let to = floor.min(self.compacted + COMPACT_STEP);
            self.dialect.compact(self.compacted, to).await?;
            self.compacted = to;
            self.metrics.compacted.set(gauge(to));
            let is_late = !is_idle && started.elapsed() > COMPACT_DEADLINE;
            if is_late || !self.queue.is_empty() || self.closing.is_cancelled() {
                break;
            }
        }
        self.dialect.maintain().await
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

type Answer = (oneshot::Sender<Result<Vec<Committed>, CommitError>>, Result<Vec<Committed>, CommitError>);
