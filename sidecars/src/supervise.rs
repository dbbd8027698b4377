//! Keeps one controller running, whatever becomes of it, without the others.

use std::{future::Future, time::Duration};

use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{metrics::Metrics, queue::Backoff};

const RESTART_FIRST: Duration = Duration::from_millis(200);
const RESTART_LONGEST: Duration = Duration::from_secs(30);
/// After a life of this length the count of failures begins anew.
const LONG_LIFE: Duration = Duration::from_secs(600);

/// Why a life of a controller ended although nobody asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stopped {
    Panicked(String),
    Failed(String),
}

impl Stopped {
    /// As the metric's label says it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "panic",
            Self::Failed(_) => "error",
        }
    }
}

impl From<JoinError> for Stopped {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// Starts `life` again whenever it fails or panics, with a growing pause, until cancelled and ended in order. Dropped,
/// it ends the life where it is.
pub(crate) async fn keep_running<F>(
    name: &'static str,
    metrics: &Metrics,
    cancel: &CancellationToken,
    life: F,
) where
    F: Fn() -> JoinHandle<Result<(), Stopped>>,
{
    let backoff = Backoff::new(RESTART_FIRST, RESTART_LONGEST);
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let ended = AbortOnDrop(life()).await.unwrap_or_else(|error| Err(error.into()));
        if cancel.is_cancelled() {
            return;
        }
        let stopped = ended.err().unwrap_or_else(|| Stopped::Failed("it ended by itself".to_owned()));
        metrics.count_restart(name, stopped.reason());
        let (Stopped::Panicked(why) | Stopped::Failed(why)) = &stopped;
        failures = if begun.elapsed() > LONG_LIFE { 1 } else { failures + 1 };
        error!(controller = name, reason = stopped.reason(), why, "a controller stopped: starting it again");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.delay(failures)) => {}
        }
    }
}

/// A task that ends when nobody waits for it any more.
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test]
    async fn a_controller_that_panics_or_fails_is_started_again_and_counted() {
        let lives = Arc::new(AtomicU32::new(0));
        let (cancel, metrics) = (CancellationToken::new(), Metrics::default());
        let (counter, stop) = (Arc::clone(&lives), cancel.clone());
        keep_running("test", &metrics, &cancel, move || {
            let (counter, stop) = (Arc::clone(&counter), stop.clone());
            tokio::spawn(async move {
                match counter.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("this panic is part of the test"),
                    1 => Err(Stopped::Failed("this failure is part of the test".to_owned())),
                    _ => {
                        stop.cancel();
                        Ok(())
                    }
                }
            })
        })
        .await;
        assert_eq!(lives.load(Ordering::SeqCst), 3);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for reason in ["panic", "error"] {
            let line =
                format!("sidecar_controller_restarts_total{{controller=\"test\",reason=\"{reason}\"}} 1");
            assert!(text.contains(&line), "{text}");
        }
    }
}
