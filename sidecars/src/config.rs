//! How a run of the sidecars is set up.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use kube::Client;

use crate::Metrics;

/// One of the jobs that a run can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// Makes volumes for claims, and deletes them afterwards.
    Provisioner,
    /// Attaches volumes to nodes.
    Attacher,
    /// Grows volumes.
    Resizer,
    /// Takes snapshots, and deletes them.
    Snapshotter,
    /// Announces the driver to the node agent of this machine.
    Registrar,
}

impl Controller {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Provisioner, Self::Attacher, Self::Resizer, Self::Snapshotter, Self::Registrar];

    /// The name for logs and flags: `provisioner`, `attacher`, `resizer`, `snapshotter`,
    /// `registrar`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioner => "provisioner",
            Self::Attacher => "attacher",
            Self::Resizer => "resizer",
            Self::Snapshotter => "snapshotter",
            Self::Registrar => "registrar",
        }
    }
}

/// How a run of the sidecars is set up. [`Config::new`] gives working values for everything
/// that does not name a place.
#[derive(Clone)]
pub struct Config {
    /// The API; any Kubernetes API server that serves the storage kinds.
    pub client: Client,
    /// The driver's CSI socket.
    pub endpoint: PathBuf,
    /// The jobs to do.
    pub controllers: BTreeSet<Controller>,
    /// The node agent's `plugins_registry` folder; only the registrar uses it.
    pub registration_dir: PathBuf,
    /// The CSI socket's path as the node agent sees it; differs from `endpoint` when the two
    /// run in different mount namespaces (upstream's `--kubelet-registration-path`).
    pub registration_endpoint: PathBuf,
    /// How long one CSI call may take before it counts as unanswered. Default 60 s.
    pub call_timeout: Duration,
    /// The wait after a key's first failure; doubles with each. Default 500 ms.
    pub retry_first: Duration,
    /// The longest wait. Default 5 min.
    pub retry_longest: Duration,
    /// Keys that each queue works on at once. Default 32.
    pub workers: usize,
    /// Tell the driver the names of claim and volume in CreateVolume's parameters, and those of
    /// snapshot and content in CreateSnapshot's, as upstream's `--extra-create-metadata`. Default false.
    pub extra_create_metadata: bool,
    /// File system of volumes whose class names none; empty lets the driver choose.
    pub default_fs_type: String,
    /// Where calls and queues are counted.
    pub metrics: Metrics,
}

impl Config {
    /// All controllers, with the defaults that the fields' documentation states.
    #[must_use]
    pub fn new(client: Client, endpoint: PathBuf, registration_dir: PathBuf) -> Self {
        Self {
            client,
            registration_endpoint: endpoint.clone(),
            endpoint,
            controllers: Controller::ALL.into(),
            registration_dir,
            call_timeout: Duration::from_secs(60),
            retry_first: Duration::from_millis(500),
            retry_longest: Duration::from_secs(300),
            workers: 32,
            extra_create_metadata: false,
            default_fs_type: String::new(),
            metrics: Metrics::default(),
        }
    }
}
