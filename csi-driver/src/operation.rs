//! Running one call: in a span, measured, and to its end even if the caller goes
//! away.

use std::time::Instant;

use tokio_util::task::TaskTracker;
use tonic::{Code, Response, Status};
use tracing::{info_span, warn};

use crate::{error::Error, metrics::Metrics};

/// Where calls run.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    driver: String,
    metrics: Metrics,
    running: TaskTracker,
}

impl Operations {
    pub(crate) fn new(driver: &str, metrics: Metrics) -> Self {
        Self { driver: driver.to_owned(), metrics, running: TaskTracker::new() }
    }

    /// Runs `work` on a thread that may block. It is not tied to the caller: a call that
    /// was cancelled half-way would leave a volume half-way.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        volume: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let span = info_span!("csi", method, volume);
        let (metrics, driver) = (self.metrics.clone(), self.driver.clone());
        let task = self.running.spawn_blocking(move || {
            let _entered = span.enter();
            let started = Instant::now();
            let done = work().map_err(|error| {
                // The caller may be gone, so this is where the error is known to be seen.
                warn!(%error, "failed");
                Status::from(error)
            });
            let code = done.as_ref().err().map_or(Code::Ok, Status::code);
            metrics.observe(&driver, method, code, started.elapsed());
            done
        });
        task.await.map_err(|error| Error::Lost(error.to_string()))?.map(Response::new)
    }

    /// Waits until everything that was begun has ended.
    pub(crate) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}
