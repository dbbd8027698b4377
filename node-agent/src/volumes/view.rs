//! The two worlds that a decision compares, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tokio::time::Instant;

use super::{action::Action, reason::Reason};
use crate::csi::capability::Shape;

/// One CSI volume on this node: every path, journal and claim on it counts as the same thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumeId {
    pub(crate) driver: String,
    pub(crate) handle: String,
}

impl VolumeId {
    /// As `Node.status.volumesInUse` names it.
    pub(crate) fn unique_name(&self) -> String {
        holdfast_api::attachment::unique_volume_name(&self.driver, &self.handle)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", self.driver, self.handle)
    }
}

/// Which pod; a later pod of the same name has another UID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct PodKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose folder layout and whose effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Plugin {
    Csi,
    HostPath,
    Local,
    EmptyDir,
}

impl Plugin {
    pub(crate) const ALL: [Self; 4] = [Self::Csi, Self::HostPath, Self::Local, Self::EmptyDir];

    /// The folder name, as kubelet escapes the plugin's name.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Csi => "kubernetes.io~csi",
            Self::HostPath => "kubernetes.io~host-path",
            Self::Local => "kubernetes.io~local-volume",
            Self::EmptyDir => "kubernetes.io~empty-dir",
        }
    }
}

/// One volume at one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PublicationId {
    pub(crate) pod: String,
    pub(crate) plugin: Plugin,
    /// The PersistentVolume's name, or the pod's own name for a volume it defines itself.
    pub(crate) name: String,
}

/// How far the API says the attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attach {
    NotNeeded,
    Pending,
    Attached,
}

/// A Secret to hand to the driver; read when it is needed, never kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SecretRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The claim whose growth waits for this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Growth {
    pub(crate) namespace: String,
    pub(crate) claim: String,
    pub(crate) claim_uid: String,
    /// What the volume offers now, in bytes and as the volume writes it.
    pub(crate) bytes: i64,
    pub(crate) quantity: String,
}

/// A CSI volume as a pod wants it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CsiVolume {
    pub(crate) id: VolumeId,
    pub(crate) pv: String,
    pub(crate) shape: Shape,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) stage_secret: Option<SecretRef>,
    pub(crate) publish_secret: Option<SecretRef>,
    pub(crate) expand_secret: Option<SecretRef>,
    pub(crate) read_only: bool,
    pub(crate) attach: Attach,
    /// The pod's service account, when the driver wants to know of the pod
    /// (`CSIDriver.spec.podInfoOnMount`).
    pub(crate) pod_info: Option<String>,
    /// `ReadWriteOncePod`.
    pub(crate) one_pod: bool,
    pub(crate) growth: Option<Growth>,
}

/// A volume without a driver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LocalVolume {
    pub(crate) plugin: Plugin,
    pub(crate) name: String,
    pub(crate) source: LocalSource,
    pub(crate) block: bool,
    pub(crate) read_only: bool,
}

/// Where a volume without a driver comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LocalSource {
    /// A path on the node, with the check of `hostPath.type` (empty: none).
    Path { path: String, check: String },
    /// A fresh folder on the kubelet's own file system.
    Scratch,
    /// A fresh tmpfs, limited to so many bytes.
    Memory { limit: Option<i64> },
}

/// A volume that a pod wants and that could be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    Csi(Box<CsiVolume>),
    Local(LocalVolume),
}

impl Wanted {
    pub(crate) fn publication(&self, pod: &str) -> PublicationId {
        let (plugin, name) = match self {
            Self::Csi(v) => (Plugin::Csi, v.pv.clone()),
            Self::Local(v) => (v.plugin, v.name.clone()),
        };
        PublicationId { pod: pod.to_owned(), plugin, name }
    }
}

/// One entry of `spec.volumes` that a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodVolume {
    pub(crate) name: String,
    pub(crate) wanted: Result<Wanted, Reason>,
    /// The claim, when it is being deleted: who has it keeps it, nobody new gets it.
    pub(crate) leaving_claim: Option<String>,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It wants its volumes.
    Active,
    /// Succeeded or Failed: it releases its volumes and stays.
    Ended,
    /// It is being deleted: it releases its volumes, then goes.
    Leaving,
    /// Its object waits for somebody else's finalizer; the node is done with it.
    Left,
}

/// What the API says of a pod's volumes, and what it should say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Report {
    pub(crate) published: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodView {
    pub(crate) key: PodKey,
    pub(crate) life: Life,
    /// Seconds since 1970; with the UID the order of pods that compete for a volume.
    pub(crate) created: i64,
    pub(crate) volumes: Vec<PodVolume>,
    pub(crate) reported: Option<Report>,
}

/// Whether an effect is known to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Begun, failed, of another boot, or half undone: it may exist in part.
    Uncertain,
    Done,
}

/// A volume that is or may be staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) pv: String,
    pub(crate) block: bool,
    pub(crate) state: State,
}

/// A volume that is or may be published to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// `None` for a volume without a driver.
    pub(crate) volume: Option<VolumeId>,
    pub(crate) block: bool,
    pub(crate) state: State,
    /// For events; namespace and name may be empty when only the folder is known.
    pub(crate) owner: PodKey,
}

/// What is on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Actual {
    pub(crate) devices: BTreeMap<VolumeId, Device>,
    pub(crate) published: BTreeMap<PublicationId, Publication>,
    /// Stagings that are there but whose journal cannot tell of which volume.
    pub(crate) unread: Unread,
}

/// What may be staged although nobody can read what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Staging folders: the driver and the folder's own name, a hash of the handle.
    pub(crate) folders: BTreeSet<(String, String)>,
    /// Whether there is a raw block staging among it; its folder says nothing of the handle.
    pub(crate) block: bool,
}

impl Unread {
    /// Whether a volume that the node listed as in use may be one of these.
    pub(crate) fn may_be(&self, unique_name: &str) -> bool {
        let volume = unique_name.strip_prefix("kubernetes.io/csi/").and_then(|name| name.split_once('^'));
        self.block
            || volume.is_some_and(|(driver, handle)| {
                self.folders.contains(&(driver.to_owned(), crate::layout::handle_hash(handle)))
            })
    }
}

/// What must not run at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    Volume(VolumeId),
    Local(PublicationId),
    Pod(String),
    Node,
}

/// The last failure of one operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// What failed; something else in its place is tried at once.
    pub(crate) action: Action,
    pub(crate) retry_at: Instant,
    pub(crate) error: String,
}

/// Names one operation across attempts: the lane, the pod if it is for one, and what it does.
pub(crate) type OperationKey = (Lane, String, &'static str);

/// Everything that a decision looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) pods: Vec<PodView>,
    pub(crate) actual: Actual,
    /// Whether the Node object exists, so that something can be listed at it.
    pub(crate) has_node: bool,
    /// `volumesInUse` as the API server has confirmed it; `None`: not known.
    pub(crate) in_use: Option<BTreeSet<String>>,
    /// Drivers that are registered now.
    pub(crate) drivers: BTreeSet<String>,
    /// Lanes with an operation under way, and since when.
    pub(crate) busy: BTreeMap<Lane, Instant>,
    pub(crate) failures: BTreeMap<OperationKey, Failure>,
}
