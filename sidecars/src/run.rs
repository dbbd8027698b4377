//! Brings a run up, and keeps each controller of it running.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Config, Controller, attacher,
    cache::{Cache, Needs},
    context::Context,
    csi::{self, CsiClient, CsiError, DriverFacts},
    election::{BadElection, Fence, run_elected},
    events::Teller,
    monitor, provisioner,
    queue::Backoff,
    registrar, resizer, snapshotter,
    supervise::{AbortOnDrop, Stopped, keep_running},
};

/// Why a run of the sidecars ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to do.
    #[error(
        "no controller is asked for: name at least one of provisioner, attacher, resizer, snapshotter, registrar, health"
    )]
    NoController,
    /// A controller that works with the API, and no API.
    #[error("the {0} works with an API server, and there is none")]
    NoApi(&'static str),
    /// The election cannot work.
    #[error("the leader election cannot work: {0}")]
    Election(#[from] BadElection),
    /// A watch that all controllers depend on ended.
    #[error("the shared cache stopped: {0}")]
    Cache(String),
}

impl Error {
    /// Whether starting again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoController | Self::NoApi(_) | Self::Election(_) => false,
            Self::Cache(_) => true,
        }
    }
}

/// How long the last events may take once their controller has ended; they are a courtesy.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the sidecars until cancelled.
///
/// Waits for the driver's socket and for the API server as long as it takes, and says in
/// the log what it waits for. A controller that fails or panics is started again without
/// the others; with [`Config::election`] each works while it holds its lease.
///
/// # Errors
/// Only what cannot be waited out; see [`Error`].
pub async fn run(config: Config, cancel: CancellationToken) -> Result<(), Error> {
    if config.controllers.is_empty() {
        return Err(Error::NoController);
    }
    if let (Some(needy), None) = (config.controllers.iter().find(|one| one.uses_api()), &config.client) {
        return Err(Error::NoApi(needy.name()));
    }
    if let Some(election) = &config.election {
        election.check()?;
    }
    let csi = CsiClient::new(config.endpoint.clone(), config.call_timeout, config.metrics.clone());
    let Some(facts) = meet(&csi, &config, &cancel).await else { return Ok(()) };
    info!(driver = facts.name, ?facts, "connected to the driver");
    let mut feeds = JoinSet::new();
    let mut controllers = JoinSet::new();
    let backoff = Backoff::new(config.retry_first, config.retry_longest);
    if config.controllers.contains(&Controller::Registrar) {
        // Before the cache: kubelet may register a driver whose volumes nobody can ask for yet.
        controllers.spawn(announce(config.clone(), facts.name.clone(), backoff.clone(), cancel.clone()));
    }
    if let Some(client) = &config.client {
        let needs = needs(&config, &facts);
        let cache = tokio::select! {
            cache = Cache::start(client, needs, &mut feeds) => cache,
            () = cancel.cancelled() => {
                // The registrar takes its socket away.
                while controllers.join_next().await.is_some() {}
                return Ok(());
            }
        };
        let parts = Arc::new(Parts {
            client: client.clone(),
            cache,
            csi: csi.named(&facts.name),
            facts: Arc::new(facts),
            backoff,
            config: config.clone(),
        });
        for controller in config.controllers.iter().copied().filter(|one| one.uses_api()) {
            controllers.spawn(work(controller, Arc::clone(&parts), cancel.clone()));
        }
    }
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
    ended
}

/// Waits for the driver and learns what it can do. `None` when cancelled.
async fn meet(client: &CsiClient, config: &Config, cancel: &CancellationToken) -> Option<DriverFacts> {
    // The registrar alone needs the name only: it must work beside a node-only plugin.
    let only_name = !config.controllers.iter().any(|controller| controller.uses_api());
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
    let monitor = has(Controller::HealthMonitor) && facts.volume_condition;
    Needs {
        claims: provisioner || resizer || monitor,
        volumes: provisioner || attacher || resizer || monitor,
        classes: provisioner,
        attachments: provisioner || attacher,
        csi_nodes: attacher || (provisioner && facts.topology),
        nodes: provisioner && facts.topology,
        snapshots: provisioner && facts.create_snapshot,
        contents: has(Controller::Snapshotter) && facts.controller,
    }
}

/// The registrar, until cancelled. It is there on every node, without an election.
async fn announce(config: Config, driver: String, backoff: Backoff, cancel: CancellationToken) {
    let announcement = registrar::Announcement {
        driver,
        endpoint: config.registration_endpoint,
        folder: config.registration_dir,
    };
    config.health.announces(&announcement.driver, &announcement.socket());
    keep_running(Controller::Registrar.name(), &config.metrics, &cancel, || {
        let run = registrar::run(announcement.clone(), backoff.clone(), cancel.clone());
        tokio::spawn(async move { run.await.map_err(|error| Stopped::Failed(error.to_string())) })
    })
    .await;
}

/// What the lives of all controllers are made of.
struct Parts {
    client: Client,
    cache: Cache,
    csi: CsiClient,
    facts: Arc<DriverFacts>,
    backoff: Backoff,
    config: Config,
}

/// One controller until cancelled: under its lease, where there is an election.
async fn work(controller: Controller, parts: Arc<Parts>, cancel: CancellationToken) {
    let (parts, cancel) = (&parts, &cancel);
    let Config { election, metrics, health, .. } = &parts.config;
    let lives = |fence: Fence| async move {
        let life = || start(controller, Arc::clone(parts), fence.clone(), cancel.clone());
        keep_running(controller.name(), metrics, cancel, life).await;
    };
    match (election, controller.lease(&parts.facts.name)) {
        (Some(election), Some(lease)) => match election.candidate(&lease, metrics, health) {
            Ok(candidate) => run_elected(&candidate, cancel, lives).await,
            // The configuration is that of the client that is there already.
            Err(error) => {
                error!(controller = controller.name(), %error, "cannot make a client for the election")
            }
        },
        _ => lives(Fence::open()).await,
    }
}

/// One life of a controller, as a task of its own. Nothing of an earlier life is in it: what a controller remembers of its
/// calls is not true any more once another process may have led.
fn start(
    controller: Controller,
    parts: Arc<Parts>,
    fence: Fence,
    cancel: CancellationToken,
) -> JoinHandle<Result<(), Stopped>> {
    tokio::spawn(async move {
        let Parts { client, cache, csi, facts, backoff, config } = &*parts;
        let broken = CancellationToken::new();
        let client = match &config.election {
            Some(election) => election.client(&fence).map_err(|error| Stopped::Failed(error.to_string()))?,
            None => client.clone(),
        };
        let (teller, write_events) = Teller::new(client.clone(), format!("{}/sidecars", facts.name));
        let mut writer = AbortOnDrop(tokio::spawn(write_events));
        let context = Arc::new(Context {
            client,
            cache: cache.seen_by(&broken),
            csi: csi.clone().behind(fence),
            facts: Arc::clone(facts),
            teller,
            metrics: config.metrics.clone(),
            backoff: backoff.clone(),
        });
        let ended = tokio::select! {
            ended = run_one(controller, context, config, cancel) => ended,
            () = broken.cancelled() => Err(Stopped::Panicked("while it heard of a change".to_owned())),
        };
        // The context is gone with the controller, so that the writer ends with the last event.
        let _ = timeout(LAST_WORDS, &mut writer).await;
        ended
    })
}

async fn run_one(
    controller: Controller,
    context: Arc<Context>,
    config: &Config,
    cancel: CancellationToken,
) -> Result<(), Stopped> {
    match controller {
        Controller::Provisioner => {
            let settings = provisioner::Settings {
                extra_create_metadata: config.extra_create_metadata,
                default_fs_type: config.default_fs_type.clone(),
                how: config.provisioning.clone(),
            };
            provisioner::run(context, settings, config.workers, cancel).await?;
        }
        Controller::Attacher => {
            attacher::run(context, config.default_fs_type.clone(), config.workers, cancel).await?;
        }
        Controller::Resizer => resizer::run(context, config.workers, cancel).await?,
        Controller::Snapshotter => {
            snapshotter::run(context, config.extra_create_metadata, config.workers, cancel).await?;
        }
        Controller::HealthMonitor => {
            let intervals = monitor::Intervals { list: config.monitor_list, volume: config.monitor_volume };
            monitor::run(context, intervals, config.workers, cancel).await;
        }
        // It has neither cache nor lease: see `announce`.
        Controller::Registrar => cancel.cancelled().await,
    }
    Ok(())
}
