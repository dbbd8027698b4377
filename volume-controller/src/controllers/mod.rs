//! The cluster controllers. They work on the store directly, because next to it a
//! decision that touches several objects is one transaction.
//!
//! Each is `decide.rs` (pure), `apply.rs` (effects) and `mod.rs` (what wakes it).

mod accounts;
mod aggregation;
mod attachdetach;
mod binder;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod cluster_tests;
mod collector;
mod engine;
mod ephemeral;
mod expand;
mod leader;
mod metrics;
mod namespace;
mod nodelifecycle;
mod old_events;
mod protection;
mod queue;
mod quota;
mod recorder;
mod room;
mod scheduler;
mod snapshot;
mod view;

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use thiserror::Error;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use engine::{Controller, Io, Underway};
pub use leader::lead;
pub use metrics::Metrics;
pub use nodelifecycle::Patience;
use nodelifecycle::Pulses;
use recorder::Recorder;
use view::Index;

/// How the controllers are set up.
#[derive(Clone)]
pub struct Config {
    /// The objects.
    pub store: Store,
    /// Where queues are counted.
    pub metrics: Metrics,
    /// How long nodes may be silent.
    pub patience: Patience,
}

impl Config {
    /// All controllers on a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, metrics: Metrics::default(), patience: Patience::default() }
    }
}

/// Why a controller, or all of them, stopped.
#[derive(Debug, Error)]
pub enum Error {
    /// Without the store there is nothing to decide on.
    #[error("the store was closed while the controllers were running")]
    StoreClosed,
    /// A defect: one look at one key panicked.
    #[error("the controller {controller} crashed: {why}")]
    Crashed {
        /// Which one.
        controller: &'static str,
        /// What the panic said.
        why: String,
    },
}

impl Error {
    /// Whether starting it again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Crashed { .. })
    }
}

/// The pause before a controller that stopped is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Runs all controllers until cancelled. One that fails or panics is started again
/// without the others.
///
/// # Errors
/// [`Error::StoreClosed`] when the store ends first.
pub async fn run(config: Config, cancel: CancellationToken) -> Result<(), Error> {
    let index = Arc::new(Index::new());
    let (recorder, write_events) = Recorder::new(config.store.clone());
    let io = Io {
        store: config.store.clone(),
        index: Arc::clone(&index),
        recorder,
        underway: Underway::default(),
        pulses: Pulses::new(config.patience),
        metrics: config.metrics.clone(),
    };
    let mut tasks = JoinSet::new();
    {
        let (store, cancel) = (config.store.clone(), cancel.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => Ok(()),
                ended = view::feed(&index, &store) => ended,
            }
        });
    }
    macro_rules! start {
        ($($controller:ty),* $(,)?) => {$({
            let (io, metrics, cancel) = (io.clone(), config.metrics.clone(), cancel.clone());
            tasks.spawn(keep_running(<$controller>::NAME, cancel.clone(), move || {
                engine::run::<$controller>(io.clone(), metrics.clone(), cancel.clone())
            }));
        })*};
    }
    start![
        binder::Binder,
        protection::Protection,
        attachdetach::AttachDetach,
        scheduler::Scheduler,
        ephemeral::Ephemeral,
        expand::Expand,
        namespace::Namespaces,
        aggregation::Aggregation,
        accounts::Accounts,
        snapshot::Snapshots,
        snapshot::GroupSnapshots,
        nodelifecycle::NodeLifecycle,
    ];
    {
        let (store, cancel) = (config.store.clone(), cancel.clone());
        tasks.spawn(keep_running("resourcequota", cancel.clone(), move || {
            quota::run(store.clone(), cancel.clone())
        }));
    }
    {
        let (store, recorder, cancel) = (config.store.clone(), io.recorder.clone(), cancel.clone());
        tasks.spawn(room::run(store, recorder, cancel));
    }
    {
        let (io, metrics, cancel) = (io.clone(), config.metrics.clone(), cancel.clone());
        tasks.spawn(keep_running(collector::NAME, cancel.clone(), move || {
            collector::run(io.clone(), metrics.clone(), cancel.clone())
        }));
    }
    {
        let (store, cancel) = (config.store, cancel.clone());
        tasks.spawn(keep_running("old-events", cancel.clone(), move || {
            old_events::run(store.clone(), cancel.clone())
        }));
    }
    drop(io);
    tasks.spawn(async move {
        write_events.await;
        Ok(())
    });
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let failed = match ended {
            Ok(ended) => ended.err(),
            Err(error) => Some(Error::Crashed { controller: "shared view", why: error.to_string() }),
        };
        if let Some(error) = failed {
            cancel.cancel();
            if result.is_ok() {
                result = Err(error);
            }
        }
    }
    result
}

/// Starts a controller again whenever it stops, until cancelled.
async fn keep_running<F, L>(name: &'static str, cancel: CancellationToken, life: L) -> Result<(), Error>
where
    L: Fn() -> F + Send,
    F: Future<Output = Result<(), Error>> + Send,
{
    loop {
        // A panic ends this life only; else it would end all controllers.
        let ended = AssertUnwindSafe(life()).catch_unwind().await;
        let ended =
            ended.unwrap_or_else(|_| Err(Error::Crashed { controller: name, why: "it panicked".to_owned() }));
        match ended {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() => {
                tracing::error!(%error, "a controller stopped: starting it again");
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = sleep(RESTART) => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_controller_that_crashes_is_started_again() {
        let lives = AtomicU32::new(0);
        let life = || {
            let number = lives.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 => Err(Error::Crashed { controller: "a", why: "a defect".to_owned() }),
                    _ => Err(Error::StoreClosed),
                }
            }
        };
        let ended = keep_running("a", CancellationToken::new(), life).await;
        assert!(matches!(ended, Err(Error::StoreClosed)));
        assert_eq!(lives.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_panic_ends_one_life_and_nothing_else() {
        let lives = AtomicU32::new(0);
        let life = || {
            let number = lives.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(number > 0, "a defect");
                Err(Error::StoreClosed)
            }
        };
        let ended = keep_running("a", CancellationToken::new(), life).await;
        assert!(matches!(ended, Err(Error::StoreClosed)));
        assert_eq!(lives.load(Ordering::Relaxed), 2);
    }
}
