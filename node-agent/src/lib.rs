//! What a kubelet does for volumes, for the pods of one node.
//!
//! Four loops under one [`run`]:
//! - `node` keeps the Node object and its Ready condition, and renews the node's lease;
//! - `plugins` watches `<root>/plugins_registry` and registers CSI drivers in CSINode;
//! - `volumes` stages, publishes, expands and releases what the pods of the node use.
//!
//! No container runtime is involved: a pod whose volumes are all published stays
//! `Pending` with the reason `VolumesPublished`.

mod clock;
mod csi;
mod error;
mod events;
mod layout;
mod metrics;
mod node;
mod plugins;
#[cfg(test)]
mod test_api;
mod volumes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use metrics::Metrics;

use layout::Layout;
use plugins::Drivers;

/// What the node agent needs to know.
#[derive(Clone)]
pub struct Config {
    /// The API server that holds the pods, claims and volumes.
    pub client: Client,
    /// The name of the Node object, and what `spec.nodeName` of its pods says.
    pub node_name: String,
    /// The kubelet folder: `plugins_registry`, `plugins` and `pods` lie below it.
    pub root: PathBuf,
    /// Addresses to publish in `Node.status.addresses` as `InternalIP`; empty: find one.
    pub addresses: Vec<String>,
    /// How long one call to a CSI driver may take. Kubelet waits 2 minutes.
    pub csi_timeout: Duration,
    /// How often folders and mounts are compared with what is remembered, and the registry
    /// folder is read anew, so that a lost notification costs time only.
    pub rescan_interval: Duration,
    /// How often the Ready condition is renewed when nothing changes. Kubelet: 5 minutes.
    pub heartbeat_interval: Duration,
    /// How long the node's lease lasts; it is renewed four times as often. Kubelet: 40 seconds.
    pub lease_duration: Duration,
    /// Operations that one driver is asked to do at the same time.
    pub operations_per_driver: usize,
    /// Where durations and counts go; register it with [`Metrics::register`].
    pub metrics: Metrics,
}

impl Config {
    /// A configuration with kubelet's usual times.
    #[must_use]
    pub fn new(client: Client, node_name: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        Self {
            client,
            node_name: node_name.into(),
            root: root.into(),
            addresses: Vec::new(),
            csi_timeout: Duration::from_secs(120),
            rescan_interval: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            operations_per_driver: 16,
            metrics: Metrics::default(),
        }
    }
}

/// Runs the node agent until `cancel` fires. Mounts stay as they are when it returns: the next
/// start finds them again by the mount table and the journals.
///
/// # Errors
/// When the root folder cannot be prepared or read, or a loop ends by itself. An API server or
/// a driver that is away is not an error: the loops wait for it.
pub async fn run(config: Config, cancel: CancellationToken) -> Result<(), Error> {
    let layout = Arc::new(Layout::prepare(&config.root)?);
    let config = Arc::new(config);
    let drivers = Drivers::new();
    let (identity_tx, identity_rx) = watch::channel(None);

    // One loop's end ends the others: a node that is half there is worse than one that is away.
    let cancel = cancel.child_token();
    let guard = cancel.clone().drop_guard();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(node::run(Arc::clone(&config), identity_tx, cancel.clone()));
    tasks.spawn(node::lease::run(Arc::clone(&config), identity_rx.clone(), cancel.clone()));
    tasks.spawn(plugins::run(
        Arc::clone(&config),
        Arc::clone(&layout),
        drivers.clone(),
        identity_rx.clone(),
        cancel.clone(),
    ));
    tasks.spawn(volumes::run(config, layout, drivers, identity_rx, cancel.clone()));

    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(Error::Task(e.to_string())));
        if result.is_ok() {
            result = ended;
        }
        cancel.cancel();
    }
    drop(guard);
    result
}
