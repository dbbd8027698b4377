//! How a run of the sidecars is set up.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use kube::Client;

use crate::{Election, Health, Metrics};

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
    /// Tells the owners of claims how the driver says that their volumes are.
    HealthMonitor,
}

impl Controller {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Provisioner, Self::Attacher, Self::Resizer, Self::Snapshotter, Self::Registrar];

    /// Whether it works with the API; what does is elected, where there is an election.
    #[must_use]
    pub fn uses_api(self) -> bool {
        self != Self::Registrar
    }

    /// The lease of which the holder does this job for a driver, as upstream's sidecar names it; none for who
    /// does it on every node.
    #[must_use]
    pub(crate) fn lease(self, driver: &str) -> Option<String> {
        match self {
            Self::Provisioner => Some(driver.to_owned()),
            Self::Attacher => Some(format!("external-attacher-leader-{driver}")),
            Self::Resizer => Some(format!("external-resizer-{driver}")),
            Self::Snapshotter => Some(format!("external-snapshotter-leader-{driver}")),
            Self::HealthMonitor => Some(format!("external-health-monitor-leader-{driver}")),
            Self::Registrar => None,
        }
    }

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
            Self::HealthMonitor => "health",
        }
    }
}

/// How volumes are asked for; the fields are upstream's flags of these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    /// Volumes are named `<prefix>-<uid of the claim>`. Default `pvc`.
    pub volume_name_prefix: String,
    /// Only so many characters of the uid, without its dashes; `None` for all of it.
    pub volume_name_uuid_length: Option<usize>,
    /// Late binding: ask for the place of the chosen node only, and not for one of all places with that one first.
    pub strict_topology: bool,
    /// Immediate binding: ask for one of the places where the driver is. Default true; else the driver chooses.
    pub immediate_topology: bool,
    /// The node that this provisioner is for (`--node-deployment`): only claims for which this node is chosen get
    /// volumes, and only volumes that can be reached from it are deleted. There must be one on each node then.
    pub node: Option<String>,
}

impl Default for Provisioning {
    fn default() -> Self {
        Self {
            volume_name_prefix: "pvc".to_owned(),
            volume_name_uuid_length: None,
            strict_topology: false,
            immediate_topology: true,
            node: None,
        }
    }
}

/// How a run of the sidecars is set up. [`Config::new`] gives working values for everything
/// that does not name a place.
#[derive(Clone)]
pub struct Config {
    /// The API; any Kubernetes API server that serves the storage kinds. Who only announces the driver needs none.
    pub client: Option<Client>,
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
    /// How often the driver is asked how all its volumes are. Default 5 min.
    pub monitor_list: Duration,
    /// How often it is asked how each one is, where it cannot list them. Default 1 min.
    pub monitor_volume: Duration,
    /// How volumes are asked for.
    pub provisioning: Provisioning,
    /// Work only while holding a lease for each job; without, this must be the only process that does them.
    pub election: Option<Election>,
    /// Where calls and queues are counted.
    pub metrics: Metrics,
    /// What the run tells of its health.
    pub health: Health,
}

impl Config {
    /// All controllers, with the defaults that the fields' documentation states.
    #[must_use]
    pub fn new(client: Client, endpoint: PathBuf, registration_dir: PathBuf) -> Self {
        Self { client: Some(client), ..Self::without_api(endpoint, registration_dir) }
    }

    /// The same for who only announces the driver, until there is a `client`.
    #[must_use]
    pub fn without_api(endpoint: PathBuf, registration_dir: PathBuf) -> Self {
        Self {
            client: None,
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
            monitor_list: Duration::from_secs(300),
            monitor_volume: Duration::from_secs(60),
            provisioning: Provisioning::default(),
            election: None,
            metrics: Metrics::default(),
            health: Health::default(),
        }
    }
}
