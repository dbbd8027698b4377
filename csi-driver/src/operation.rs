//! Running one call: in a span, measured, and to its end even if the caller goes
//! away.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::Semaphore;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Code, Response, Status};
use tracing::{info_span, warn};

use crate::{
    error::{Error, one_line},
    metrics::Metrics,
};

/// How many calls of one pool run at once. Storage that hangs holds so many threads and no
/// more: the others, and whoever shares this process, still have theirs.
pub(crate) const AT_ONCE: usize = 64;

/// How many transfers run at once, of all pools. They take no turn of a pool's: whoever is at the
/// other end decides how long they take.
const TRANSFERS: usize = 8;

/// Where calls run.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    driver: String,
    metrics: Metrics,
    running: TaskTracker,
    by_pool: Arc<BTreeMap<String, Arc<Semaphore>>>,
    /// For calls that name no pool and no volume of one.
    other: Arc<Semaphore>,
    /// For what waits for somebody at the other end of a pipe.
    transfers: Arc<Semaphore>,
}

impl Operations {
    pub(crate) fn new<'a>(driver: &str, metrics: Metrics, pools: impl Iterator<Item = &'a String>) -> Self {
        let permits = || Arc::new(Semaphore::new(AT_ONCE));
        Self {
            driver: driver.to_owned(),
            metrics,
            running: TaskTracker::new(),
            by_pool: Arc::new(pools.map(|pool| (pool.clone(), permits())).collect()),
            other: permits(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
        }
    }

    /// As [`Operations::run_in`], in the pool of which the volume's id speaks.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        volume: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let pool = volume.split_once('.').map(|(pool, _)| pool);
        self.run_in(pool, method, volume, work).await
    }

    /// Runs `work` on a thread that may block. It is not tied to the caller: a call that
    /// was cancelled half-way would leave a volume half-way. `pool` is the one whose storage
    /// it waits for.
    pub(crate) async fn run_in<T: Send + 'static>(
        &self,
        pool: Option<&str>,
        method: &'static str,
        volume: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let turns = pool.and_then(|pool| self.by_pool.get(pool)).unwrap_or(&self.other);
        self.run_with(turns, method, volume, work).await
    }

    /// As [`Operations::run`], for work that reads from somebody else, or writes to one.
    pub(crate) async fn transfer<T: Send + 'static>(
        &self,
        method: &'static str,
        volume: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.run_with(&self.transfers, method, volume, work).await
    }

    async fn run_with<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        method: &'static str,
        volume: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let span = info_span!("csi", method, volume = one_line(volume));
        // Nothing is begun yet: a caller that goes away here leaves nothing.
        let permit = Arc::clone(turns).acquire_owned().await;
        let permit = permit.map_err(|error| Error::Lost(error.to_string()))?;
        let (metrics, driver) = (self.metrics.clone(), self.driver.clone());
        let counted = self.expect_open()?;
        let task = self.running.spawn_blocking(move || {
            let _permit = permit;
            let _entered = span.enter();
            let started = Instant::now();
            let done = work().map_err(|error| {
                // The caller may be gone, so this is where the error is known to be seen.
                let status = Status::from(error);
                warn!(error = status.message(), "failed");
                status
            });
            let code = done.as_ref().err().map_or(Code::Ok, Status::code);
            metrics.observe(&driver, method, code, started.elapsed());
            done
        });
        drop(counted);
        task.await.map_err(|error| Error::Lost(error.to_string()))?.map(Response::new)
    }

    /// Runs a piece of a stream in the turn of its pool, as a call that nobody counts.
    pub(crate) async fn piece<T: Send + 'static>(
        &self,
        volume: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let pool = volume.split_once('.').and_then(|(pool, _)| self.by_pool.get(pool));
        let permit = Arc::clone(pool.unwrap_or(&self.other)).acquire_owned().await;
        let permit = permit.map_err(|error| Error::Lost(error.to_string()))?;
        let counted = self.expect_open()?;
        let task = self.running.spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        drop(counted);
        Ok(task.await.map_err(|error| Error::Lost(error.to_string()))?)
    }

    /// With the token taken, `finish` waits for what begins now. One that comes too late is
    /// refused: by then the pools may be another driver's.
    fn expect_open(&self) -> Result<TaskTrackerToken, Status> {
        let counted = self.running.token();
        if self.running.is_closed() {
            return Err(Status::unavailable("this driver is stopping; ask the one that comes after it"));
        }
        Ok(counted)
    }

    /// Waits until everything that was begun has ended.
    pub(crate) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pool_that_hangs_holds_so_many_threads() {
        let pools = ["a".to_owned(), "b".to_owned()];
        let operations = Operations::new("driver", Metrics::default(), pools.iter());
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(parking_lot::Mutex::new(hang));
        let mut hung = tokio::task::JoinSet::new();
        for number in 0..AT_ONCE + 1 {
            let (operations, hang) = (operations.clone(), Arc::clone(&hang));
            hung.spawn(async move {
                let work = move || hang.lock().recv().map_err(|error| Error::Lost(error.to_string()));
                operations.run("Method", &format!("a.{number}"), work).await
            });
        }
        // A call that was answered is counted for a moment more.
        let all_taken = async || {
            let taken = async {
                while operations.running.len() != AT_ONCE {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
        };
        all_taken().await;
        for other in ["b.1", "", "new-name"] {
            operations.run("Method", other, || Ok(())).await.unwrap();
        }
        // The last one waits its turn.
        all_taken().await;
        for _ in 0..AT_ONCE + 1 {
            release.send(()).unwrap();
        }
        while let Some(done) = hung.join_next().await {
            done.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_begins_after_the_end() {
        let operations = Operations::new("driver", Metrics::default(), [].iter());
        operations.finish().await;
        let late = operations.run("Method", "a.1", || Ok(())).await.unwrap_err();
        assert_eq!(late.code(), Code::Unavailable);
        assert_eq!(operations.piece("a.1", || ()).await.unwrap_err().code(), Code::Unavailable);
    }
}
