//! Why the snapshot controller does what it does; upstream's wording where upstream has one.

use std::fmt;

use holdfast_api::{secret::SecretError, snapshot::names::DEFAULT_CLASS};

/// One reason; feeds the event, the snapshot's status and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    // News.
    Creating { snapshot: String },
    Created { snapshot: String },
    Ready { snapshot: String },
    DriverFailed { message: String },
    // For the log.
    DefaultClass { class: String },
    Bound { snapshot: String, content: String },
    Protecting,
    Deleting { snapshot: String },
    Keeping { snapshot: String },
    WaitsForContent { content: String },
    Kept { content: String },
    Gone,
    NothingToDelete { driver: String },
    ClaimUnused,
    // What a person has to do something about.
    NoClaim { claim: String },
    ClaimGoing { claim: String },
    ClaimUnbound { claim: String },
    NoVolume { claim: String, volume: String },
    NotCsi { volume: String },
    NoClass { class: String },
    WrongDriver { class: String, of: String, driver: String },
    NoDefaultClass { driver: String },
    ManyDefaultClasses { driver: String, classes: String },
    BadSecret(SecretError),
    ContentMissing { content: String },
    ContentMismatch { content: String },
    ContentGoing { content: String },
    Misbound { content: String },
    InRestore { claims: String },
    NoDriver { driver: String },
}

impl Reason {
    /// The event's `reason`; `None` for what only the log tells.
    pub(crate) fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Creating { .. } => "CreatingSnapshot",
            Self::Created { .. } => "SnapshotCreated",
            Self::Ready { .. } => "SnapshotReady",
            Self::DriverFailed { .. } => "SnapshotCreationFailed",
            Self::NoClaim { .. }
            | Self::ClaimGoing { .. }
            | Self::ClaimUnbound { .. }
            | Self::NoVolume { .. }
            | Self::NotCsi { .. }
            | Self::WrongDriver { .. }
            | Self::BadSecret(_) => "SnapshotContentCreationFailed",
            Self::NoClass { .. } => "GetSnapshotClassFailed",
            Self::NoDefaultClass { .. } | Self::ManyDefaultClasses { .. } => "SetDefaultSnapshotClassFailed",
            Self::ContentMissing { .. } => "SnapshotContentMissing",
            Self::ContentMismatch { .. } => "SnapshotContentMismatch",
            Self::ContentGoing { .. } | Self::Misbound { .. } => "SnapshotContentMisbound",
            Self::InRestore { .. } => "SnapshotDeletePending",
            Self::NoDriver { .. } => "DriverNotFound",
            Self::DefaultClass { .. }
            | Self::Bound { .. }
            | Self::Protecting
            | Self::Deleting { .. }
            | Self::Keeping { .. }
            | Self::WaitsForContent { .. }
            | Self::Kept { .. }
            | Self::Gone
            | Self::NothingToDelete { .. }
            | Self::ClaimUnused => return None,
        })
    }

    /// Whether a person has to do something.
    pub(crate) fn is_warning(&self) -> bool {
        let is_news = matches!(self, Self::Creating { .. } | Self::Created { .. } | Self::Ready { .. });
        self.name().is_some() && !is_news
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FAILED: &str = "Failed to create snapshot content with error";
        match self {
            Self::Creating { snapshot } => {
                write!(f, "Waiting for a snapshot {snapshot} to be created by the CSI driver.")
            }
            Self::Created { snapshot } => {
                write!(f, "Snapshot {snapshot} was successfully created by the CSI driver.")
            }
            Self::Ready { snapshot } => write!(f, "Snapshot {snapshot} is ready to use."),
            Self::DriverFailed { message } => f.write_str(message),
            Self::DefaultClass { class } => {
                write!(f, "the snapshot names no class and gets the default class {class:?}")
            }
            Self::Bound { snapshot, content } => {
                write!(f, "snapshot {snapshot} is bound to content {content}")
            }
            Self::Protecting => f.write_str("it must not go before what it stands for is settled"),
            Self::Deleting { snapshot } => {
                write!(f, "snapshot {snapshot} is being deleted, and its content with it")
            }
            Self::Keeping { snapshot } => {
                write!(
                    f,
                    "snapshot {snapshot} is being deleted; the content's deletionPolicy keeps what it stands for"
                )
            }
            Self::WaitsForContent { content } => {
                write!(f, "nothing is made from the snapshot any more; it waits for content {content} to go")
            }
            Self::Kept { content } => write!(f, "content {content} stays without the snapshot"),
            Self::Gone => f.write_str("the snapshot is being deleted and no content belongs to it"),
            Self::NothingToDelete { driver } => {
                write!(
                    f,
                    "what it stands for is retained, so nobody waits for the driver {driver}, which is not here"
                )
            }
            Self::ClaimUnused => f.write_str("no snapshot of the claim is being taken any more"),
            Self::NoClaim { claim } => write!(
                f,
                "{FAILED} persistentvolumeclaim {claim:?} not found: create it, or delete the snapshot"
            ),
            Self::ClaimGoing { claim } => {
                write!(f, "{FAILED} the PVC {claim} is being deleted, no snapshot of it is begun")
            }
            Self::ClaimUnbound { claim } => {
                write!(
                    f,
                    "{FAILED} the PVC {claim} is not yet bound to a PV, will not attempt to take a snapshot"
                )
            }
            Self::NoVolume { claim, volume } => {
                write!(
                    f,
                    "{FAILED} the PVC {claim} has lost its PV {volume}: there is nothing to take a snapshot of"
                )
            }
            Self::NotCsi { volume } => {
                write!(f, "{FAILED} PV {volume} is not a CSI volume: only CSI drivers take snapshots")
            }
            Self::NoClass { class } => write!(
                f,
                "Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io {class:?} not found"
            ),
            Self::WrongDriver { class, of, driver } => write!(
                f,
                "{FAILED} the volume is one of driver {driver}, and snapshot class {class:?} of driver {of}: name a \
                 class of {driver}"
            ),
            Self::NoDefaultClass { driver } => write!(
                f,
                "Failed to set default snapshot class with error cannot find default snapshot class for driver \
                 {driver}: name one in volumeSnapshotClassName, or mark one with {DEFAULT_CLASS}=true"
            ),
            Self::ManyDefaultClasses { driver, classes } => write!(
                f,
                "Failed to set default snapshot class with error several default snapshot classes were found for \
                 driver {driver} ({classes}): take {DEFAULT_CLASS} off all but one"
            ),
            Self::BadSecret(error) => write!(f, "{FAILED} {error}"),
            Self::ContentMissing { content } => write!(f, "VolumeSnapshotContent {content} is missing"),
            Self::ContentMismatch { content } => write!(
                f,
                "VolumeSnapshotContent {content} is dynamically provisioned while expecting a pre-provisioned one"
            ),
            Self::ContentGoing { content } => write!(f, "VolumeSnapshotContent {content} is being deleted"),
            Self::Misbound { content } => {
                write!(f, "VolumeSnapshotContent [{content}] is bound to a different snapshot")
            }
            Self::InRestore { claims } => write!(
                f,
                "Snapshot is being used to restore a PVC ({claims}): it goes when that is bound or deleted"
            ),
            Self::NoDriver { driver } => write!(
                f,
                "no CSI driver {driver:?} is known here (neither a CSIDriver object nor a node tells of it): install \
                 or start it, or correct spec.driver by making the object anew"
            ),
        }
    }
}
