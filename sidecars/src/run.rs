//! Brings a run up, and keeps each controller of it running.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Config, Controller, attacher,
    cache::{Cache, Needs},
    context::Context,
    csi::{self, CsiClient, CsiError, DriverFacts},
    events::Teller,
    provisioner,
    queue::Backoff,
    registrar, resizer, snapshotter,
};

/// Why a run of the sidecars ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to do.
    #[error(
        "no controller is asked for: name at least one of provisioner, attacher, resizer, snapshotter, registrar"
    )]
    NoController,
    /// A watch that all controllers depend on ended.
    #[error("the shared cache stopped: {0}")]
    Cache(String),
}

impl Error {
    /// Whether starting again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoController => false,
            Self::Cache(_) => true,
        }
    }
}

const RESTART_FIRST: Duration = Duration::from_millis(200);
const RESTART_LONGEST: Duration = Duration::from_secs(30);

/// Runs the sidecars until cancelled.
///
/// Waits for the driver's socket and for the API server as long as it takes, and says in
/// the log what it waits for. A controller that fails or panics is started again without
/// the others.
///
/// # Errors
/// Only what cannot be waited out; see [`Error`].
pub async fn run(config: Config, cancel: CancellationToken) -> Result<(), Error> {
    if config.controllers.is_empty() {
        return Err(Error::NoController);
    }
    let client = CsiClient::new(config.endpoint.clone(), config.call_timeout, config.metrics.clone());
    let Some(facts) = meet(&client, &config, &cancel).await else { return Ok(()) };
    info!(driver = facts.name, ?facts, "connected to the driver");
    let (teller, write_events) = Teller::new(config.client.clone(), format!("{}/sidecars", facts.name));
    let mut feeds = JoinSet::new();
    let needs = needs(&config, &facts);
    let cache = tokio::select! {
        cache = Cache::start(&config.client, needs, &mut feeds) => cache,
        () = cancel.cancelled() => return Ok(()),
    };
    let context = Arc::new(Context {
        client: config.client.clone(),
        cache,
        csi: client.named(&facts.name),
        facts: Arc::new(facts),
        teller,
        metrics: config.metrics.clone(),
        backoff: Backoff::new(config.retry_first, config.retry_longest),
    });
    let mut controllers = JoinSet::new();
    for controller in config.controllers.iter().copied() {
        let (config, context, cancel) = (config.clone(), Arc::clone(&context), cancel.clone());
        controllers.spawn(keep_running(controller.name(), cancel.clone(), move || {
            start(controller, &config, &context, &cancel)
        }));
    }
    // Dropping the context ends the writer of events once all controllers are gone.
    drop(context);
    let writer = tokio::spawn(write_events);
    let ended = loop {
        tokio::select! {
            ended = controllers.join_next() => if ended.is_none() {
                break Ok(());
            },
            // A feed never returns: if it ends, its task panicked, and the cache is stale for ever.
            Some(ended) = feeds.join_next() => {
                let why = ended.err().map_or_else(|| "its watch ended".to_owned(), |error| error.to_string());
                break Err(Error::Cache(why));
            }
        }
    };
    controllers.shutdown().await;
    // The last events have a moment; they are a courtesy.
    let _ = tokio::time::timeout(Duration::from_secs(2), writer).await;
    ended
}

/// Waits for the driver and learns what it can do. `None` when cancelled.
async fn meet(client: &CsiClient, config: &Config, cancel: &CancellationToken) -> Option<DriverFacts> {
    // The registrar alone needs the name only: it must work beside a node-only plugin.
    let only_name = config.controllers.iter().all(|controller| *controller == Controller::Registrar);
    let mut said: Option<CsiError> = None;
    loop {
        if !csi::connect(client, &config.endpoint, cancel).await {
            return None;
        }
        let learned =
            if only_name { client.plugin_name().await.map(DriverFacts::new) } else { client.learn().await };
        match learned {
            Ok(facts) if !facts.name.is_empty() => return Some(facts),
            Ok(_) => warn!("the driver answers GetPluginInfo without a name, which CSI does not allow"),
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    warn!(%error, "cannot learn what the driver can do: trying again");
                }
                said = Some(error);
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn needs(config: &Config, facts: &DriverFacts) -> Needs {
    let has = |controller| config.controllers.contains(&controller);
    let (provisioner, attacher, resizer) =
        (has(Controller::Provisioner), has(Controller::Attacher), has(Controller::Resizer));
    Needs {
        claims: provisioner || resizer,
        volumes: provisioner || attacher || resizer,
        classes: provisioner,
        attachments: provisioner || attacher,
        csi_nodes: attacher || (provisioner && facts.topology),
        nodes: provisioner && facts.topology,
        snapshots: provisioner && facts.create_snapshot,
        contents: has(Controller::Snapshotter) && facts.controller,
    }
}

/// One life of a controller, as a task of its own.
fn start(
    controller: Controller,
    config: &Config,
    context: &Arc<Context>,
    cancel: &CancellationToken,
) -> tokio::task::JoinHandle<Result<(), String>> {
    let (config, context, cancel) = (config.clone(), Arc::clone(context), cancel.clone());
    tokio::spawn(async move {
        match controller {
            Controller::Provisioner => {
                let settings = provisioner::Settings {
                    extra_create_metadata: config.extra_create_metadata,
                    default_fs_type: config.default_fs_type,
                };
                provisioner::run(context, settings, config.workers, cancel).await.map_err(|e| e.to_string())
            }
            Controller::Attacher => {
                let run = attacher::run(context, config.default_fs_type, config.workers, cancel);
                run.await.map_err(|e| e.to_string())
            }
            Controller::Resizer => {
                resizer::run(context, config.workers, cancel).await.map_err(|e| e.to_string())
            }
            Controller::Snapshotter => {
                let run = snapshotter::run(context, config.extra_create_metadata, config.workers, cancel);
                run.await.map_err(|e| e.to_string())
            }
            Controller::Registrar => {
                let announcement = registrar::Announcement {
                    driver: context.facts.name.clone(),
                    endpoint: config.registration_endpoint,
                    folder: config.registration_dir,
                };
                registrar::run(announcement, context.backoff.clone(), cancel).await.map_err(|e| e.to_string())
            }
        }
    })
}

/// Starts `life` again whenever it fails or panics, with a growing pause, until cancelled.
async fn keep_running<F>(name: &'static str, cancel: CancellationToken, life: F)
where
    F: Fn() -> tokio::task::JoinHandle<Result<(), String>> + Send,
{
    let backoff = Backoff::new(RESTART_FIRST, RESTART_LONGEST);
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let why = match AbortOnDrop(life()).await {
            Ok(Ok(())) if cancel.is_cancelled() => return,
            Ok(Ok(())) => "it ended by itself".to_owned(),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        if cancel.is_cancelled() {
            return;
        }
        failures = if begun.elapsed() > Duration::from_secs(600) { 1 } else { failures + 1 };
        error!(controller = name, why, "a controller stopped: starting it again");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.delay(failures)) => {}
        }
    }
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_controller_that_panics_or_fails_is_started_again() {
        let lives = Arc::new(AtomicU32::new(0));
        let cancel = CancellationToken::new();
        let (counter, stop) = (Arc::clone(&lives), cancel.clone());
        keep_running("test", cancel.clone(), move || {
            let (counter, stop) = (Arc::clone(&counter), stop.clone());
            tokio::spawn(async move {
                match counter.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("this panic is part of the test"),
                    1 => Err("this failure is part of the test".to_owned()),
                    _ => {
                        stop.cancel();
                        Ok(())
                    }
                }
            })
        })
        .await;
        assert_eq!(lives.load(Ordering::SeqCst), 3);
    }
}
