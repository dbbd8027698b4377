//! The one writer: takes what waits in the queue, commits it as one SQL
//! transaction, makes it visible, wakes the watches and then answers.
//!
//! A crash before COMMIT leaves nothing of a batch, a crash after it everything;
//! nobody has been answered in either case, so nothing acknowledged is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::check::Asked;
use super::dialect::{CommitFailure, Dialect, DialectError};
use super::memory::Memory;
use super::metrics::ResourceLabel;
use super::plan::Plan;
use super::quota::Level;
use super::settle::Unsettled;
use super::{BatchLimits, Change, CommitError, Committed, Ended, Metrics, Term, Transaction, present};

/// One transaction and who waits for it.
pub(crate) struct Request {
    pub(crate) transaction: Transaction,
    /// It is refused once another term has begun.
    pub(crate) term: Option<Term>,
    pub(crate) answer: oneshot::Sender<Result<Vec<Committed>, CommitError>>,
}

/// How long what is patient waits for others to go along with; a commit takes about as long.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often the writer looks after the log and the database when nothing is written.
const TICK: Duration = Duration::from_secs(5);
/// Revisions that one transaction of the compaction covers. Between two of them waiting writes are served.
const COMPACT_STEP: u64 = 512;
/// Writes do not wait longer than about this for a round of compaction.
const COMPACT_DEADLINE: Duration = Duration::from_millis(20);
/// A batch above this is worth a log line.
const SLOW: Duration = Duration::from_secs(1);

/// The writer's task.
pub(crate) struct Writer {
    pub(crate) dialect: Box<dyn Dialect>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: BatchLimits,
    /// How many changes of the past are loaded.
    pub(crate) window: usize,
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) checks: mpsc::Receiver<Asked>,
    /// Who waits until what others have committed is known.
    pub(crate) present: mpsc::Receiver<present::Asked>,
    /// Taken from the queue, not yet begun.
    pub(crate) waiting: VecDeque<Request>,
    /// When all that waits is patient: when its patience ends.
    pub(crate) due: Option<Instant>,
    /// Cancelled to end the task, once the queue is empty.
    pub(crate) closing: CancellationToken,
    /// Set at the very end, when the database is closed and its lock free.
    pub(crate) ended: watch::Sender<Option<Ended>>,
    /// The log is compacted on disk up to here.
    pub(crate) compacted: u64,
    /// A commit of which nobody knows whether it happened. While there is one, nothing is written.
    pub(crate) unsettled: Option<Unsettled>,
    /// The most bytes that all objects together may have.
    pub(crate) quota: Option<u64>,
    /// How near to it they are.
    pub(crate) level: watch::Sender<Level>,
    /// Whether the last batch failed.
    pub(crate) is_failing: bool,
    /// Whether the database answered the last time.
    pub(crate) reachable: watch::Sender<bool>,
}

/// What became of a batch.
pub(super) enum Outcome {
    Done,
    /// Nothing was written.
    Refused(CommitError),
    Unknown(String),
}

impl Writer {
    /// Runs until the store is closed, nobody has it any more, or it may not write any more.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.closing.clone();
        while self.dialect.lost().is_none() {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                request = self.queue.recv() => {
                    let Some(request) = request else { break };
                    self.take(request).await;
                    self.housekeep(false).await;
                }
                () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => {
                    self.serve().await;
                    self.housekeep(false).await;
                }
                Some(asked) = self.checks.recv() => {
                    let report = self.check().await;
                    let _ = asked.send(report);
                }
                _ = tick.tick() => {
                    self.memory.trim();
                    self.housekeep(true).await;
                }
                Some(asked) = self.present.recv() => self.catch_up(asked).await,
                // While requests come in, each of them brings what others committed along.
                () = self.dialect.changed() => {
                    // It is in the log, and tried again.
                    let _ = self.follow().await;
                }
            }
        }
        // What was accepted into the queue is still written, or refused when that may not be.
        self.queue.close();
        while let Some(request) = self.queue.recv().await {
            self.take(request).await;
        }
        self.serve().await;
        let ended = self.dialect.lost().map_or(Ended::Closed, |why| Ended::Lost(why.to_owned()));
        if let Ended::Lost(why) = &ended {
            tracing::error!(%why, "the store was lost to this process");
        }
        self.dialect.close().await;
        self.memory.close();
        self.ended.send_replace(Some(ended));
    }

    /// Takes one request, and all others that are there as far as the limits allow, and commits them; or leaves them
    /// waiting a moment longer when all of them are patient.
    async fn take(&mut self, first: Request) {
        self.waiting.push_back(first);
        let mut writes: usize = self.waiting.iter().map(|request| request.transaction.writes.len()).sum();
        while writes < self.limits.writes {
            let Ok(request) = self.queue.try_recv() else { break };
            writes += request.transaction.writes.len();
            self.waiting.push_back(request);
        }
        let now = Instant::now();
        let is_patient = self.waiting.iter().all(|request| request.transaction.is_patient);
        if is_patient && writes < self.limits.writes && *self.due.get_or_insert(now + PATIENCE) > now {
            return;
        }
        self.serve().await;
    }

    /// Commits all that waits.
    async fn serve(&mut self) {
        self.due = None;
        while !self.waiting.is_empty() {
            self.serve_waiting().await;
        }
    }

    /// Commits what waits, or as much of it as goes into one SQL transaction.
    async fn serve_waiting(&mut self) {
        let started = Instant::now();
        let (answers, outcome) = self.commit(started).await;
        match &outcome {
            Outcome::Done => self.recovered(),
            Outcome::Refused(error) => self.failed(error),
            Outcome::Unknown(error) => self.failed(error),
        }
        // An answer that nobody waits for any more is dropped: the write stands.
        for (answer, result) in answers {
            let _ = answer.send(match &outcome {
                Outcome::Done => result,
                Outcome::Refused(error) => Err(error.clone()),
                // What was refused would have been refused because of writes that may not have happened.
                Outcome::Unknown(error) if result.is_ok() => Err(CommitError::Unknown(error.clone())),
                Outcome::Unknown(error) => Err(CommitError::Database(error.clone())),
            });
        }
    }

    async fn commit(&mut self, started: Instant) -> (Vec<Answer>, Outcome) {
        let waiting = self.waiting_for_present();
        let begun = match self.settle().await {
            Ok(_) => self.begin().await,
            Err(error) => Err(CommitError::Database(error)),
        };
        let known = begun.as_ref().map_err(ToString::to_string).copied();
        if !matches!(begun, Err(CommitError::Full(_))) {
            self.reached(&known);
        }
        present::answer(waiting, &known);
        if let Err(error) = begun {
            return (self.refuse_waiting(), Outcome::Refused(error));
        }
        let memory = self.memory.clone();
        let mut plan = Plan::new(memory.revision(), |key| memory.get(key)).within(self.quota, memory.bytes());
        let mut answers: Vec<Answer> = Vec::with_capacity(self.waiting.len());
        while plan.bytes() < self.limits.bytes
            && let Some(request) = self.waiting.pop_front()
        {
            // Looked at under the same lock as everything else: who leads now began after all that is in the log.
            let is_over = request.term.is_some_and(|term| self.dialect.term() != Some(term));
            let admitted = if is_over { Err(CommitError::Deposed) } else { plan.admit(request.transaction) };
            answers.push((request.answer, admitted));
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
            Err(CommitFailure::Refused(error)) => return (answers, Outcome::Refused(error.into())),
            Err(CommitFailure::Unknown(error)) => {
                let error = CommitError::from(error);
                self.unsettled = Some(Unsettled::new(changes, error.to_string()));
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

    /// Of many failures in a row the log has the first.
    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.metrics.failures.inc();
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(%error, "a batch of writes failed again");
        } else {
            tracing::error!(%error, "a batch of writes failed; reads go on");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("writes succeed again");
        }
    }

    pub(super) fn publish(&self, changes: &[Arc<Change>]) {
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
        let used = self.memory.bytes();
        self.metrics.objects_bytes.set(gauge(used));
        let level = Level::of(used, self.quota);
        if self.level.send_if_modified(|known| std::mem::replace(known, level) != level) {
            level.log(used, self.quota);
        }
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
            self.compacted = self.dialect.compact(to).await?;
            self.metrics.compacted.set(gauge(self.compacted));
            let is_late = !is_idle && started.elapsed() > COMPACT_DEADLINE;
            if is_late || !self.queue.is_empty() || self.closing.is_cancelled() {
                break;
            }
        }
        self.dialect.maintain(is_idle).await?;
        if is_idle {
            let size = self.dialect.size().await?;
            self.reached(&Ok(()));
            self.metrics.database_bytes.set(gauge(size.total));
            self.metrics.database_free_bytes.set(gauge(size.free));
        }
        Ok(())
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

type Answer = (oneshot::Sender<Result<Vec<Committed>, CommitError>>, Result<Vec<Committed>, CommitError>);
